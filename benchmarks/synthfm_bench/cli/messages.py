"""Messages of the ``synthfm`` command, and how it ends when it is stopped."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from synthfm_env.errors import Terminated
from synthfm_env.printable import printable

_MOST = 3_000


def complain(message: str) -> None:
    """Print one line on stderr, with the command's name in front."""
    typer.echo(f"synthfm: {printable(message, _MOST).strip()}", err=True)


@contextmanager
def on_interrupt(kept: str) -> Iterator[None]:
    """Turn Ctrl-C, SIGTERM and SIGHUP into an exit status (see ``status_of``) and one line on what was kept."""
    try:
        yield
    except KeyboardInterrupt as stop:
        complain(str(stop) or kept)
        raise typer.Exit(status_of(stop)) from None


def status_of(stop: KeyboardInterrupt) -> int:
    """Return the exit status of a command that was stopped: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP."""
    return 128 + (stop.number if isinstance(stop, Terminated) else int(signal.SIGINT))


def import_from_here() -> None:
    """Let classes of the user's own, named ``module:Class``, be imported from the current folder."""
    here = os.getcwd()
    if here not in sys.path:
        sys.path.append(here)


def one_thread_each() -> None:
    """Before numpy loads: workers share the cores, and sums must not depend on how many there are."""
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
