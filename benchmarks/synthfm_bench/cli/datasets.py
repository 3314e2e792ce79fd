"""``synthfm datasets``: check data sets on disk."""

from pathlib import Path
from typing import Annotated

import typer

from synthfm_bench.cli.messages import on_interrupt

datasets = typer.Typer(help="Check data sets on disk.", no_args_is_help=True)


@datasets.command()
def check(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="the data set's folder")],
    layout: Annotated[str, typer.Option(metavar="NAME", help="from `synthfm list layouts`")],
) -> None:
    """Read every image of a data set, and report which can be played and which are broken.

    `synthfm datasets check ~/data/CHAOS --layout chaos`
    """
    from rich.console import Console

    from synthfm_env.volumes.datasets.check import check as read_all
    from synthfm_env.volumes.datasets.check import report_lines

    with on_interrupt("stopped: not every image was read"):
        for line in report_lines(read_all(path, layout, Console(stderr=True))):
            typer.echo(line)
