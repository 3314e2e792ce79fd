"""``synthfm verify``: play a run's episodes again and compare."""

from pathlib import Path
from typing import Annotated

import typer

from synthfm_bench.cli.messages import import_from_here, on_interrupt, one_thread_each
from synthfm_bench.cli.options import TrustPlugins
from synthfm_env.printable import printable


def verify(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="a run's folder, as runs/quick-...")],
    episodes: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="replay so many, evenly chosen; all by default")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="processes, as many as cores by default")
    ] = None,
    trust_plugins: TrustPlugins = False,
) -> None:
    """Play a run's episodes again, and report whether the results are the same, or the differences.

    Exit status 0 if they did, 1 if not. Masks are compared bit by bit, times not at all.
    """
    one_thread_each()
    from rich.console import Console

    from synthfm_bench.execution.local_pool import default_workers
    from synthfm_bench.execution.verify import report_lines
    from synthfm_bench.execution.verify import verify as replay

    if trust_plugins:
        import_from_here()
    with on_interrupt("stopped: the replay was not finished"):
        verdict = replay(
            run,
            episodes=episodes,
            workers=workers or default_workers(),
            console=Console(stderr=True),
            trusted=trust_plugins,
        )
    for line in report_lines(verdict):
        typer.echo(printable(line, 2000))
    raise typer.Exit(0 if verdict.equal else 1)
