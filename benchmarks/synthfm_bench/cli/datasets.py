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

    from synthfm_env.errors import InputError
    from synthfm_env.volumes.datasets.check import check as read_all
    from synthfm_env.volumes.datasets.check import report_lines

    with on_interrupt("stopped: not every image was read"):
        checked = read_all(path, layout, Console(stderr=True))
        for line in report_lines(checked):
            typer.echo(line)
    if not any(part.images for part in checked):
        raise InputError(f"{path}: none of its images can be played; correct the files that the report names")
