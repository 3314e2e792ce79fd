"""``synthfm play``: click in the browser."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synthfm_bench.cli.messages import import_from_here, one_thread_each
from synthfm_bench.cli.options import NANO, Modality, modality_named
from synthfm_env.errors import InputError

if TYPE_CHECKING:
    from synthfm_bench.play.game import Game
    from synthfm_bench.play.person_run import PersonRun
    from synthfm_bench.suite import Suite


def play(
    what: Annotated[
        str,
        typer.Argument(metavar="SUITE|IMAGE", help="a suite, a NIfTI image of yours, or the folder of a DICOM series"),
    ] = "human-v1",
    alias: Annotated[
        str, typer.Option(metavar="NAME", help="you in the records, human:NAME; any name but your own will do")
    ] = "me",
    segmenter: Annotated[
        str | None, typer.Option(metavar="NAME", help="answers the clicks; the suite's first by default")
    ] = None,
    practice: Annotated[
        bool, typer.Option("--practice", help="show the target's outline, and Dice after each click")
    ] = False,
    label: Annotated[
        Path | None, typer.Option(metavar="FILE", help="label map of IMAGE: its structures are scored and recorded")
    ] = None,
    structure: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="label id to play, again for more; every id by default")
    ] = None,
    modality: Modality = None,
    data: Annotated[Path | None, typer.Option(metavar="FOLDER", help="of the suite's data sets")] = None,
    cases: Annotated[int | None, typer.Option(min=1, metavar="N", help="of each group at most so many")] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="for the records; one that holds a run of yours goes on with it"),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="0 takes a free one")] = 1528,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="another than this machine's own needs a token")
    ] = "127.0.0.1",
    token: Annotated[
        str | None, typer.Option(envvar="SYNTHFM_TOKEN", metavar="TEXT", help="which the page's address then holds")
    ] = None,
) -> None:
    """Click yourself, in a browser on this machine, and be recorded as one more clicker.

    `synthfm play` plays the suite human-v1, `synthfm play ct.nii.gz --label organs.nii.gz` a volume of yours. Without
    a label nothing is scored: masks are saved from the page. Runs join boards: `synthfm report RUN RUN`. Nothing
    leaves this machine.
    """
    one_thread_each()
    import_from_here()
    from rich.console import Console

    from synthfm_bench.serve.listen import check_extra, check_token, listen, run, url_of

    check_extra("synthfm play")
    check_token(host, token)
    from synthfm_bench.play.app import PAGE, check_page, make_app

    check_page(PAGE)
    image = _image(what)
    if image is None:
        for option, given in (("--label", label), ("--structure", structure), ("--modality", modality)):
            if given:
                raise InputError(f"{option} was given, but {what} is no image; name a NIfTI file, or leave it out")
    with Console(stderr=True).status("reading the volumes and the segmenter"):
        if image is not None and label is None:
            game = _free_game(image, segmenter or NANO, modality)
        else:
            suite = _suite(what, image, label, structure, modality, data, cases)
            game = _suite_game(suite, alias, segmenter, practice, out)
    bound = listen(host, port)
    address = f"{url_of(bound)}/{f'#token={token}' if token else ''}"
    typer.echo(f"page: {address}")
    typer.echo("next: open that in a browser on this machine; stop by Ctrl-C, finished structures are kept")
    try:
        run(make_app(game, token=token), bound)
    finally:
        game.close()


def _image(what: str) -> Path | None:
    """Return the image or the folder that is named, None for a suite."""
    path = Path(what)
    return path if what.endswith((".nii", ".nii.gz", ".img")) or os.path.isdir(path) else None


def _free_game(image: Path, segmenter: str, modality: str | None) -> "Game":
    from synthfm_bench.play.game import FreeGame
    from synthfm_env.segmenters import make_segmenter
    from synthfm_env.volumes.image_files import open_image

    return FreeGame(open_image(image, modality_named(modality)), make_segmenter(segmenter))


def _suite(
    what: str,
    image: Path | None,
    label: Path | None,
    structures: list[str] | None,
    modality: str | None,
    data: Path | None,
    cases: int | None,
) -> "Suite":
    """Return the suite to play: a packaged one or a file, or one of the user's own image and label."""
    from synthfm_bench.suite import FileData, load_suite, with_choices

    if image is None or label is None:
        return with_choices(load_suite(what), root=data, cases=cases)
    own = FileData(
        kind="files",
        name="own volume",
        image=image,
        label=label,
        structures=tuple(structures or ()),
        modality=modality_named(modality),
    )
    return with_choices(load_suite("quick"), data=own)  # as `synthfm bench quick --image` does, so that both join


def person_run(what: str, label: Path | None, alias: str, segmenter: str, out: Path | None) -> "PersonRun":
    """Open the run of a person who clicks on a suite, or on an image with a label."""
    from synthfm_bench.play.person_run import PersonRun, suite_of_person

    suite = _suite(what, _image(what), label, None, None, None, None)
    return PersonRun.open(suite_of_person(suite, alias, segmenter=segmenter, practice=False), out)


def _suite_game(suite: "Suite", alias: str, segmenter: str | None, practice: bool, out: Path | None) -> "Game":
    from synthfm_bench.play.game import SuiteGame
    from synthfm_bench.play.person_run import PersonRun, suite_of_person

    chosen = segmenter or suite.segmenters[0]
    person = suite_of_person(suite, alias, segmenter=chosen, practice=practice)
    return SuiteGame(PersonRun.open(person, out))
