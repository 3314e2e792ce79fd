"""``synthfm serve``: use any segmenter in 3D Slicer and napari."""

from pathlib import Path
from typing import Annotated

import typer

from synthfm_bench.cli.messages import import_from_here
from synthfm_bench.cli.options import NANO
from synthfm_env.errors import InputError


def serve(
    segmenter: Annotated[
        str, typer.Option(metavar="NAME", help="from `synthfm list segmenters`, or a weights file")
    ] = NANO,
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="0 takes a free one")] = 1527,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="another than this machine's own needs a token")
    ] = "127.0.0.1",
    token: Annotated[
        str | None,
        typer.Option(envvar="SYNTHFM_TOKEN", metavar="TEXT", help="which clients must send, as their API key"),
    ] = None,
    sessions: Annotated[int, typer.Option(min=1, metavar="N", help="clients at a time")] = 4,
    limit_mib: Annotated[int, typer.Option(min=1, metavar="MIB", help="for one image, 4 bytes a voxel")] = 1024,
    record: Annotated[
        str | None, typer.Option(metavar="SUITE|IMAGE", help="record clicks on the images of a suite, or on one image")
    ] = None,
    label: Annotated[Path | None, typer.Option(metavar="FILE", help="label map of the image of --record")] = None,
    alias: Annotated[str, typer.Option(metavar="NAME", help="the person in the records, human:NAME")] = "me",
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="for the records")] = None,
) -> None:
    """Serve a segmenter to 3D Slicer and napari, by nnInteractive's protocol.

    In Slicer's extension SlicerNNInteractive or napari-nninteractive choose the mode Remote and enter the printed
    address. Tools that the segmenter does not take are greyed out there. Stop it by Ctrl-C.

    With --record clicks on the images of a suite, opened in the viewer from the same files, are records as those of
    `synthfm play`: the first click, inside a structure, names it.
    """
    import_from_here()
    ignored = [option for option, value in (("--label", label), ("--out", out)) if value is not None]
    if record is None and ignored:
        raise InputError(f"{ignored[0]} was given without --record: nothing is recorded then; give both, or neither")
    from synthfm_bench.serve.listen import check_extra, check_token, listen, run, url_of

    check_extra("synthfm serve")
    check_token(host, token)
    from synthfm_bench.serve.app import Limits, make_app
    from synthfm_env.segmenters import make_segmenter

    with listen(host, port) as bound:
        limits = Limits(sessions=sessions, mib=limit_mib)
        model = make_segmenter(segmenter)
        if record is None:
            app = make_app(model, limits=limits, token=token)
        else:
            import time

            from synthfm_bench.cli.play import person_run
            from synthfm_bench.serve.recording import Recorder

            person = person_run(record, label, alias, segmenter, out)
            typer.echo(f"records: {person.folder}")
            recorder = Recorder(person, model, time.monotonic)
            app = make_app(model, limits=limits, token=token, recognise=recorder.recognise)
        typer.echo(f"{segmenter}: {url_of(bound)}")
        typer.echo(
            "next: in 3D Slicer (SlicerNNInteractive) or napari (napari-nninteractive) choose Remote, enter that"
        )
        run(app, bound)
