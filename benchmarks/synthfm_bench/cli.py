"""The ``synthfm`` command. Heavy imports sit inside the commands, so that ``synthfm --help`` is quick."""

import inspect
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.exceptions import TyperException

from synthfm_env.errors import InputError, unknown_name

if TYPE_CHECKING:
    from synthfm_bench.board import Row
    from synthfm_bench.runner import Finished
    from synthfm_bench.suite import FileData
    from synthfm_bench.tasks import Plan

app = typer.Typer(
    name="synthfm",
    help="Benchmark promptable 3D segmentation: clickers (who clicks) with segmenters (what answers), on "
    "synthetic volumes and on your own. Start with `synthfm bench quick`.",
    epilog="Volumes are NIfTI files; clicks and shapes are z,y,x in voxels. Exit status: 0 done, 2 bad "
    "input, 1 anything else.",
    add_completion=False,
    rich_markup_mode="markdown",
)

datasets = typer.Typer(help="Look at data sets on disk.", no_args_is_help=True)
app.add_typer(datasets, name="datasets")

NANO = "synthfm3d-nano"
TRACEBACK = "SYNTHFM_TRACEBACK"

Modality = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="CT, MR, US or other: how intensities are scaled; guessed by default"),
]


class Kind(StrEnum):
    """What ``synthfm list`` can list."""

    MODELS = "models"
    CLICKERS = "clickers"
    PROTOCOLS = "protocols"
    SUITES = "suites"
    LAYOUTS = "layouts"
    ENVS = "envs"


@app.command()
def bench(
    suite: Annotated[
        str,
        typer.Argument(metavar="SUITE", help="a name from `synthfm list suites`, or a TOML file"),
    ],
    image: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="play on this volume of yours, not on the suite's data"),
    ] = None,
    label: Annotated[
        Path | None, typer.Option(metavar="FILE", help="its label map on the same grid, 0 = background")
    ] = None,
    structure: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="label id to play, again for more; every id by default"),
    ] = None,
    modality: Modality = None,
    segmenter: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="play this one, again for more; the suite's by default"),
    ] = None,
    clicker: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="play this one, again for more; the suite's by default"),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="where the suite's data sets lie; for the suite `folder`, your own files"),
    ] = None,
    cases: Annotated[int | None, typer.Option(min=1, metavar="N", help="of each group at most so many")] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="another seed draws other synthetic cases and other clicks"),
    ] = None,
    time_limit: Annotated[
        float | None,
        typer.Option(
            min=0.001, metavar="SECONDS", help="for one click; an episode that takes longer fails, the run goes on"
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="processes, as many as cores by default; results stay the same"),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="for the run, runs/SUITE-TIME by default")] = None,
    executor: Annotated[
        str, typer.Option(metavar="NAME", help="local, or ray: the machines of a Ray cluster that is running")
    ] = "local",
    resume: Annotated[
        bool, typer.Option("--resume", help="go on with a run that was stopped or killed: the newest, or that in --out")
    ] = False,
) -> None:
    """Play every clicker with every segmenter, and print the board.

    `synthfm bench quick` needs no download. The same board on a volume of yours:
    `synthfm bench quick --image ct.nii.gz --label organs.nii.gz --structure 3`
    """
    _one_thread_each()
    from rich.console import Console

    from synthfm_bench.resume import find_unfinished, suite_of
    from synthfm_bench.runner import run_suite
    from synthfm_bench.suite import load_suite, with_choices
    from synthfm_bench.tasks import make_plan

    stderr = Console(stderr=True)
    folder = None
    with _on_interrupt("stopped: nothing had been played"):
        if resume:
            _refuse_choices(
                image=image,
                data=data,
                cases=cases,
                segmenter=segmenter,
                clicker=clicker,
                seed=seed,
                time_limit=time_limit,
            )
            folder = find_unfinished(suite, out)
            played = suite_of(folder, suite)
        else:
            played = with_choices(
                load_suite(suite),
                segmenters=tuple(segmenter or ()),
                clickers=tuple(clicker or ()),
                seed=seed,
                data=_own_volume(image, label, structure or [], modality),
                root=data,
                cases=cases,
                time_limit_s=time_limit,
            )
        with stderr.status("checking the suite, its volumes and models") as status:
            plan = make_plan(played, lambda name: status.update(f"reading {name}"))
        run = run_suite(played, plan, out=out, workers=workers, console=stderr, resume=folder, executor=executor)
    _show(run, plan, suite, image is not None)


@app.command()
def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="folders of runs; several of one suite make one board")
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="a new one; by default the run's own, for several runs/SUITE-joined-TIME"),
    ] = None,
) -> None:
    """Write the report of a run again, or join runs of one suite to one board.

    `synthfm report runs/quick-A runs/quick-B` shows the segmenters and clickers of both side by side, with tests of
    all pairs. Runs with other click rules, images or suites are refused, and the message says what differs.
    """
    _one_thread_each()
    from rich.console import Console

    from synthfm_bench.report import missing_extra
    from synthfm_bench.report import report as make_report

    with _on_interrupt("stopped: the report was not finished"):
        made = make_report(runs, out, Console(stderr=True))
    _print_board(made.rows)
    for note in made.notes:
        typer.echo(f"note: {note}")
    typer.echo(f"\ntables: {made.folder} (leaderboard.md, leaderboard.csv, pairs.csv)")
    typer.echo(f"report: {made.page or missing_extra()}")


@app.command()
def verify(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="a run's folder, as runs/quick-...")],
    episodes: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="replay so many, evenly chosen; all by default")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="processes, as many as cores by default")
    ] = None,
) -> None:
    """Play a run's episodes again, and say whether they came out the same, or where not.

    Exit status 0 where they did, 1 where not. Masks are compared bit by bit, times not at all.
    """
    _one_thread_each()
    from rich.console import Console

    from synthfm_bench.pool import default_workers
    from synthfm_bench.verify import say
    from synthfm_bench.verify import verify as replay

    with _on_interrupt("stopped: the replay was not finished"):
        verdict = replay(run, episodes=episodes, workers=workers or default_workers(), console=Console(stderr=True))
    for line in say(verdict):
        typer.echo(line)
    raise typer.Exit(0 if verdict.equal else 1)


@datasets.command()
def check(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="the data set's folder")],
    layout: Annotated[str, typer.Option(metavar="NAME", help="from `synthfm list layouts`")],
) -> None:
    """Read every image of a data set, and say what can be played and what is broken.

    `synthfm datasets check ~/data/CHAOS --layout chaos`
    """
    from rich.console import Console

    from synthfm_bench.datasets import check as read_all
    from synthfm_bench.datasets import say

    with _on_interrupt("stopped: not every image was read"):
        for line in say(read_all(path, layout, Console(stderr=True))):
            typer.echo(line)


@app.command()
def segment(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="a NIfTI file with one volume or 2D image")],
    click: Annotated[
        list[str],
        typer.Option(metavar="Z,Y,X,+|-", help="inside (+) or outside (-) the structure; again for more"),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="the mask, .nii or .nii.gz")],
    segmenter: Annotated[
        str, typer.Option(metavar="NAME", help="from `synthfm list models`, or a weights file")
    ] = NANO,
    modality: Modality = None,
) -> None:
    """Segment one structure of a volume from a few clicks.

    `synthfm segment ct.nii.gz --click 40,120,96,+ --click 40,150,96,- -o mask.nii.gz`

    A click names a voxel as the file stores it, and as 3D Slicer shows it under K, J, I: z counts along the
    file's third axis, y along its second, x along its first, all from 0. The mask lies on the input voxel by
    voxel.
    """
    from rich.console import Console

    from synthfm_bench.pointing import clicks_in_volume
    from synthfm_env.prompts import Click
    from synthfm_env.segmenters import make_segmenter
    from synthfm_env.volumes import load_volume, save_mask, to_uint8

    _check_mask_path(output, image)
    clicks = [Click.parse(text) for text in click]
    with (
        _on_interrupt(f"stopped: {output} was not written"),
        Console(stderr=True).status(f"{segmenter}: {image}"),
    ):
        volume = load_volume(image, modality=_modality(modality))
        placed = clicks_in_volume(clicks, image, volume)
        with make_segmenter(segmenter).start(to_uint8(volume.image, volume.modality), volume.spacing) as session:
            answers = [session.add(one) for one in placed]
        save_mask(answers[-1].mask, volume, output)
    voxels = int(answers[-1].mask.sum())
    millilitres = voxels * volume.spacing[0] * volume.spacing[1] * volume.spacing[2] / 1000
    typer.echo(f"{output}: {voxels} voxels, {millilitres:.2f} ml, from {len(clicks)} click{'s' * (len(clicks) > 1)}")
    typer.echo(
        "next: open image and mask together in a viewer, then add a --click where the mask is wrong"
        if voxels
        else "the mask is empty: add a positive --click inside the structure"
    )


@app.command("list")
def list_(
    kind: Annotated[Kind, typer.Argument(metavar="KIND", help="models, clickers, protocols, suites, layouts or envs")],
) -> None:
    """List what can be named: models, clickers, protocols, suites, data-set layouts, envs."""
    names = _LISTS[kind]()
    width = max(map(len, names))
    for name, description in names.items():
        typer.echo(f"{name:{width}}  {description}")


@app.command()
def generate(
    out: Annotated[
        Path | None, typer.Argument(metavar="OUT", help="folder for the volumes; may be left out with --preview")
    ] = None,
    count: Annotated[int, typer.Option("-n", "--count", min=1, metavar="N", help="how many volumes")] = 10,
    shape: Annotated[str, typer.Option(metavar="Z,Y,X", help="voxels of each; 1,Y,X for 2D images")] = "64,128,128",
    recipe: Annotated[
        str, typer.Option(metavar="NAME", help="any, ct, mr, us, other, synthfm2d, ... or a TOML file")
    ] = "any",
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="of the first volume; the next has the next one")] = 0,
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="processes, as many as cores by default; files stay the same")
    ] = None,
    preview: Annotated[
        Path | None, typer.Option(metavar="FILE", help="write a contact sheet too, a PNG to look at the recipe")
    ] = None,
) -> None:
    """Write SynthFM-3D volumes with their labels, as NIfTI files in nnU-Net's layout.

    `synthfm generate volumes --count 100 --recipe ct` writes a hundred. Run again, it goes on where it was stopped.
    """
    from rich.console import Console

    from synthfm_bench.generate import generate as write_volumes
    from synthfm_bench.pool import default_workers

    if out is None and preview is None:
        raise InputError("synthfm generate: name a folder for the volumes, or --preview FILE for a picture alone")
    if not re.fullmatch(r"\d+,\d+,\d+", shape):
        raise InputError(f"--shape {shape}: expected three voxel counts z,y,x, for example 64,128,128")
    grid = [int(n) for n in shape.split(",")]
    console = Console(stderr=True)
    with _on_interrupt("stopped: the volumes that are complete are kept; run the same command again to go on"):
        done = write_volumes(
            out,
            count,
            grid,
            recipe=recipe,
            seed=seed,
            workers=workers or default_workers(),
            preview=preview,
            console=console if console.is_terminal else None,
        )
    if out is not None:
        there = f", {done.found} were there already" if done.found else ""
        typer.echo(f"{out}: {done.written} volumes written{there} (imagesTr, labelsTr, dataset.json, manifest.jsonl)")
        label = min((out / "labelsTr").iterdir())
        image = out / "imagesTr" / label.name.replace(".nii", "_0000.nii")
        typer.echo(f"next: synthfm bench quick --image {image} --label {label}")
    if preview is not None:
        typer.echo(f"preview: {preview}")


@app.command()
def train(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="a packaged one such as synthfm3d-nano, or a TOML file")
    ],
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="change the recipe: seed=1, phases.0.steps=20 ..."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on from the folder's checkpoint")] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="for the training, runs/train-RECIPE by default")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1")] = "auto",
    devices: Annotated[
        int, typer.Option(min=1, help="GPUs, or processes on the CPU, that share each step's volumes")
    ] = 1,
    workers: Annotated[
        int | None, typer.Option(min=0, help="processes that make volumes, for each device; by default the cores left")
    ] = None,
) -> None:
    """Train a segmenter on SynthFM-3D volumes, which are made as it goes.

    `synthfm train synthfm3d-nano` is how the packaged model was made, `synthfm train synthfm3d-refiner` the small 3D
    network that has the last word on its masks. Other recipes: synthfm3d-hiera-tiny and synthfm2d fine-tune an official
    checkpoint on a GPU, ablation-shape, ablation-boundary and ablation-both take minutes. The folder gets the best
    weights, metrics.jsonl, pictures of the validation and a checkpoint to --resume from.
    """
    from synthfm_train.cli import train as run_training
    from synthfm_train.cli import trains_refiner

    folder = out or Path("runs") / f"train-{Path(recipe).stem}"
    with _on_interrupt("stopped before the first step"):
        best = run_training(
            recipe,
            out=folder,
            overrides=tuple(changes or ()),
            resume=resume,
            device=device,
            devices=devices,
            workers=workers,
        )
    typer.echo(f"weights: {best}")
    if trains_refiner(recipe, tuple(changes or ())):
        typer.echo(f'next: make_segmenter("{NANO}", refine="{best}"), or params = {{ refine = "{best}" }} in a suite')
    else:
        typer.echo(f"next: synthfm bench quick --segmenter {best} --segmenter {NANO}")


def main() -> None:
    """Run the command: exit status 0 when done, 2 on bad input, 130 on Ctrl-C, 1 on anything else."""
    sys.path.append(os.getcwd())  # a segmenter or clicker of the user's own, module:Class, may lie here
    try:
        status = app(sys.argv[1:] or ["--help"], prog_name="synthfm", standalone_mode=False) or 0
    except InputError as error:
        _complain(str(error))
        status = 2
    except TyperException as error:
        context = getattr(error, "ctx", None)
        see = f" See: {context.command_path} --help" if context else ""
        _complain(error.format_message().replace("Value error, ", "") + see)
        status = 2
    except Exception as error:
        if os.environ.get(TRACEBACK):
            raise
        _complain(f"{type(error).__name__}: {error}; to see where, run it again with {TRACEBACK}=1 in front")
        status = 1
    sys.exit(status)


def _complain(message: str) -> None:
    typer.echo(f"synthfm: {' '.join(message.split())}", err=True)


@contextmanager
def _on_interrupt(kept: str) -> Iterator[None]:
    """Turn Ctrl-C into exit status 130 and one line on what was kept."""
    try:
        yield
    except KeyboardInterrupt as stop:
        _complain(str(stop) or kept)
        raise typer.Exit(130) from None


def _one_thread_each() -> None:
    """Before numpy loads: workers share the cores, and sums must not depend on how many there are."""
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def _refuse_choices(**given: object) -> None:
    """Raise InputError where something was chosen for a run that goes on with what it was started with."""
    for name, value in given.items():
        if value not in (None, []):
            raise InputError(
                f"--{name.replace('_', '-')} was given with --resume: a run goes on with what it was started with; "
                "leave it out, or leave out --resume to start a new run"
            )


def _own_volume(
    image: Path | None, label: Path | None, structures: list[str], modality: str | None
) -> "FileData | None":
    """Return the data that ``--image`` and what belongs to it name, None without them."""
    from synthfm_bench.suite import FileData

    given = {"--label": label, "--structure": structures, "--modality": modality}
    if image is None:
        for option, value in given.items():
            if value:
                raise InputError(f"{option} was given without --image: give both, or neither")
        return None
    if label is None:
        raise InputError(f"--image {image} needs --label: the board compares masks with the truth")
    return FileData(
        kind="files",
        name="own volume",
        image=image,
        label=label,
        structures=tuple(structures),
        modality=_modality(modality),
    )


def _modality(given: str | None) -> str | None:
    from synthfm_env.volumes import MODALITIES

    if given is None:
        return None
    known = {name.lower(): name for name in MODALITIES}
    if given.lower() not in known:
        raise unknown_name("modality", given, MODALITIES)
    return known[given.lower()]


def _check_mask_path(output: Path, image: Path) -> None:
    """Raise InputError, before any work, where the mask could not be written or would replace the image."""
    if not output.name.endswith((".nii", ".nii.gz")):
        raise InputError(f"-o {output}: a mask is written as NIfTI, so its name ends in .nii or .nii.gz")
    if not output.parent.is_dir():
        raise InputError(f"-o {output}: there is no folder {output.parent}; make it first")
    if output.resolve() == image.resolve():
        raise InputError(f"-o {output}: is the image itself; give the mask another name")


def _show(run: "Finished", plan: "Plan", suite: str, own: bool) -> None:
    """Print the board, where the run lies, and what to do next; write the report."""
    from synthfm_bench.report import missing_extra

    _print_board(run.rows)
    for note in plan.notes:
        typer.echo(f"note: {note}")
    typer.echo(f"\nrun: {run.folder} (leaderboard.md, leaderboard.csv, pairs.csv, steps.jsonl, run.json)")
    typer.echo(f"results hash: {run.results_hash}")
    if run.pace:
        typer.echo(f"pace: {run.pace}")
    with _on_interrupt(f"stopped: the run is complete; its report can be written by: synthfm report {run.folder}"):
        typer.echo(f"report: {_write_report(run) or missing_extra()}")
    if own:
        typer.echo("next: synthfm segment IMAGE --click z,y,x,+ -o mask.nii.gz   writes the mask of your own clicks")
    else:
        typer.echo(f"next: synthfm bench {suite} --image IMAGE --label LABEL   plays the same board on your volume")


def _print_board(rows: "list[Row]") -> None:
    from rich.console import Console

    from synthfm_bench.leaderboard import print_board

    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, 120)
    print_board(rows, console)


def _write_report(run: "Finished") -> Path | None:
    from rich.console import Console

    from synthfm_bench.join import join_runs
    from synthfm_bench.report import missing_extra, write_report

    if missing_extra():
        return None
    return write_report(run.folder, join_runs([run.folder]), run.rows, Console(stderr=True))


def _suites() -> dict[str, str]:
    from synthfm_bench.suite import list_suites

    return list_suites()


def _layouts() -> dict[str, str]:
    from synthfm_env.volumes.layouts import list_layouts

    return list_layouts()


def _models() -> dict[str, str]:
    from synthfm_env.segmenters import list_segmenters

    return list_segmenters()


def _clickers() -> dict[str, str]:
    from synthfm_agents import list_clickers

    return list_clickers()


def _protocols() -> dict[str, str]:
    """Return the click protocols, each with the start of its hash: figures taken with one hash compare."""
    from synthfm_agents import list_protocols

    described = _clickers()
    return {name: f"[{found[:12]}] {described[name]}" for name, found in list_protocols().items()}


def _envs() -> dict[str, str]:
    import gymnasium as gym
    from gymnasium.envs.registration import load_env_creator

    import synthfm_env  # noqa: F401 - registers the envs

    specs = [spec for env_id, spec in gym.registry.items() if env_id.startswith("SynthFM/")]
    described = {}
    for spec in specs:
        page = inspect.getdoc(load_env_creator(str(spec.entry_point))) or ""
        described[spec.id] = page.splitlines()[0] + (f" {json.dumps(spec.kwargs)}" if spec.kwargs else "")
    return described


_LISTS = {
    Kind.MODELS: _models,
    Kind.CLICKERS: _clickers,
    Kind.PROTOCOLS: _protocols,
    Kind.SUITES: _suites,
    Kind.LAYOUTS: _layouts,
    Kind.ENVS: _envs,
}

if __name__ == "__main__":
    main()
