"""``synthfm bench``: play a suite and print the board."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synthfm_bench.cli.messages import complain, import_from_here, on_interrupt, one_thread_each
from synthfm_bench.cli.options import Modality, TrustPlugins, modality_named
from synthfm_bench.cli.report import print_rows
from synthfm_env.errors import InputError
from synthfm_env.printable import printable

if TYPE_CHECKING:
    from synthfm_bench.execution.run import Finished
    from synthfm_bench.plan import Plan
    from synthfm_bench.suite import FileData


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
        typer.Option(metavar="FOLDER", help="of the suite's data sets; for the suite `folder`, of your files"),
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
    memory_limit: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="MIB",
            help="most memory that foreign code may take in a worker; by default most of what is free (Linux only)",
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
    trust_plugins: TrustPlugins = False,
) -> None:
    """Play every clicker with every segmenter, and print the board.

    `synthfm bench quick` needs no download. The same board on a volume of yours:
    `synthfm bench quick --image ct.nii.gz --label organs.nii.gz --structure 3`

    Exit status 1 if episodes failed: they score 0 on the board, and the others are played.
    """
    one_thread_each()
    from rich.console import Console

    from synthfm_bench.execution.resume import find_unfinished, suite_of
    from synthfm_bench.execution.run import run_suite
    from synthfm_bench.execution.trust import check_trusted
    from synthfm_bench.plan import make_plan
    from synthfm_bench.suite import load_suite, with_choices

    stderr = Console(stderr=True)
    folder = None
    with on_interrupt("stopped: nothing had been played"):
        if resume:
            _refuse_choices(
                image=image,
                data=data,
                cases=cases,
                segmenter=segmenter,
                clicker=clicker,
                seed=seed,
                time_limit=time_limit,
                memory_limit=memory_limit,
            )
            folder = find_unfinished(suite, out)
            played = suite_of(folder, suite)
            if not trust_plugins:
                check_trusted(played, folder, "synthfm bench --resume", code_only=True)
            import_from_here()
        else:
            import_from_here()
            played = with_choices(
                load_suite(suite),
                segmenters=tuple(segmenter or ()),
                clickers=tuple(clicker or ()),
                seed=seed,
                data=_own_volume(image, label, structure or [], modality),
                root=data,
                cases=cases,
                time_limit_s=time_limit,
                memory_limit_mib=memory_limit,
            )
        with stderr.status("checking the suite, its volumes and models") as status:
            plan = make_plan(played, lambda name: status.update(f"reading {name}"))
        run = run_suite(played, plan, out=out, workers=workers, console=stderr, resume=folder, executor=executor)
    _show(run, plan, suite, image is not None)


def _refuse_choices(**given: object) -> None:
    """Raise InputError if options would change a run that is resumed, which keeps those it was started with."""
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
    from synthfm_bench.suite import own_volume

    given = {"--label": label, "--structure": structures, "--modality": modality}
    if image is None:
        for option, value in given.items():
            if value:
                raise InputError(f"{option} was given without --image: give both, or neither")
        return None
    if label is None:
        raise InputError(f"--image {image} needs --label: the board compares masks with the truth")
    return own_volume(image, label, tuple(structures), modality_named(modality))


def _show(run: "Finished", plan: "Plan", suite: str, own: bool) -> None:
    """Print the board, the run's folder and the next command; write the report."""
    from synthfm_bench.report.html import missing_extra

    print_rows(run.rows)
    for note in plan.notes:
        typer.echo(f"note: {printable(note)}")
    typer.echo(f"\nrun: {printable(run.folder)} (leaderboard.md, structures.md, pairs.csv, steps.jsonl, run.json)")
    typer.echo(f"results hash: {run.results_hash}")
    if run.pace:
        typer.echo(f"pace: {run.pace}")
    again = shlex.join(["synthfm", "report", str(run.folder)])
    with on_interrupt(f"stopped: the run is complete; its report can be written by: {again}"):
        typer.echo(f"report: {_write_report(run) or missing_extra()}")
    if run.failed:
        kinds = ", ".join(f"{count} {kind}" for kind, count in run.failed.items())
        complain(f"{sum(run.failed.values())} of {run.episodes} episodes failed ({kinds}); they score 0 on the board")
        raise typer.Exit(1)
    if own:
        typer.echo("next: synthfm segment IMAGE --click z,y,x,+ -o mask.nii.gz   writes the mask of your own clicks")
    else:
        typer.echo(f"next: synthfm bench {suite} --image IMAGE --label LABEL   plays the same board on your volume")


def _write_report(run: "Finished") -> Path | None:
    from rich.console import Console

    from synthfm_bench.report.html import missing_extra, write_report
    from synthfm_bench.results.merge import join_runs

    if missing_extra():
        return None
    return write_report(run.folder, join_runs([run.folder]), run.rows, Console(stderr=True), trusted=True)
