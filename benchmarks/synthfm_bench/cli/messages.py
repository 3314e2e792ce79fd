"""Messages of the ``synthfm`` command, and what it does on Ctrl-C."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import typer


def complain(message: str) -> None:
    """Print one line on stderr, with the command's name in front."""
    typer.echo(f"synthfm: {' '.join(message.split())}", err=True)


@contextmanager
def on_interrupt(kept: str) -> Iterator[None]:
    """Turn Ctrl-C into exit status 130 and one line on what was kept."""
    try:
        yield
    except KeyboardInterrupt as stop:
        complain(str(stop) or kept)
        raise typer.Exit(130) from None


def one_thread_each() -> None:
    """Before numpy loads: workers share the cores, and sums must not depend on how many there are."""
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
