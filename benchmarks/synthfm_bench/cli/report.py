"""``synthfm report``: write the report of a run, or of several merged runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synthfm_bench.cli.messages import complain, import_from_here, on_interrupt, one_thread_each
from synthfm_bench.cli.options import TrustPlugins
from synthfm_env.printable import printable

if TYPE_CHECKING:
    from synthfm_bench.analysis.aggregate import LeaderboardRow


def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="folders of runs; several of one suite make one board")
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="a new one; by default the run's own, for several runs/SUITE-joined-TIME"),
    ] = None,
    eval_results: Annotated[
        str | None,
        typer.Option(
            metavar="OWNER/NAME",
            help="also write Hugging Face's .eval_results and model cards, for this benchmark's data set on the Hub",
        ),
    ] = None,
    trust_plugins: TrustPlugins = False,
) -> None:
    """Write the report of a run again, or join runs of one suite to one board.

    `synthfm report runs/quick-A runs/quick-B` shows the segmenters and clickers of both side by side, with tests of
    all pairs. Runs with other click rules, images or suites are refused, and the message names what differs.
    Exit status 1 if records of a run are damaged or were changed: the report shows the others.
    """
    one_thread_each()
    from rich.console import Console

    from synthfm_bench.report.html import missing_extra
    from synthfm_bench.report.html import report as make_report

    if eval_results is not None:
        from synthfm_bench.publish.eval_results import check_dataset_id, write_eval_results

        check_dataset_id(eval_results)
    if trust_plugins:
        import_from_here()
    with on_interrupt("stopped: the report was not finished"):
        made = make_report(runs, out, Console(stderr=True), trusted=trust_plugins)
    print_rows(made.rows)
    for note in made.notes:
        typer.echo(f"note: {printable(note)}")
    typer.echo(f"\ntables: {made.folder} (leaderboard.md, structures.md, pairs.csv)")
    typer.echo(f"report: {made.page or missing_extra()}")
    if eval_results is not None:
        written = write_eval_results(
            made.folder,
            made.rows,
            dataset_id=eval_results,
            suite=made.suite,
            results_hash=made.results_hash,
            date=made.started,
        )
        typer.echo(f"evaluation results: {made.folder / 'eval_results'} ({len(written)} models)")
    if made.damage:
        complain("; ".join(made.damage))
        raise typer.Exit(1)


def print_rows(rows: "list[LeaderboardRow]") -> None:
    """Print the board on the terminal, at least 120 columns wide if stdout is none."""
    from rich.console import Console

    from synthfm_bench.report.console import print_board

    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, 120)
    print_board(rows, console)
