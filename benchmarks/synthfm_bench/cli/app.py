"""Assembles the ``synthfm`` command. Heavy imports are inside the subcommands, so that ``--help`` is quick."""

import os
import sys

import typer
from typer.exceptions import TyperException

from synthfm_bench.cli.bench import bench
from synthfm_bench.cli.challenge import challenge
from synthfm_bench.cli.datasets import datasets
from synthfm_bench.cli.generate import generate
from synthfm_bench.cli.list import list_
from synthfm_bench.cli.messages import complain, status_of
from synthfm_bench.cli.play import play
from synthfm_bench.cli.record import record
from synthfm_bench.cli.report import report
from synthfm_bench.cli.segment import segment
from synthfm_bench.cli.serve import serve
from synthfm_bench.cli.stop_signals import StopSignals
from synthfm_bench.cli.train import train
from synthfm_bench.cli.verify import verify
from synthfm_env.errors import InputError, UserFacingError
from synthfm_env.printable import error_line

TRACEBACK = "SYNTHFM_TRACEBACK"

app = typer.Typer(
    name="synthfm",
    help="Benchmark promptable 3D segmentation: clickers (who clicks) with segmenters (what answers), on "
    "synthetic volumes and on your own. Start with `synthfm bench quick`.",
    epilog="Volumes are NIfTI files; clicks and shapes are z,y,x in voxels. Exit status: 0 done, 2 bad "
    "input, 1 episodes failed or anything else, 130 stopped.",
    add_completion=False,
    rich_markup_mode="markdown",
)
app.add_typer(datasets, name="datasets")
app.command()(bench)
app.command()(report)
app.command()(verify)
app.command()(segment)
app.command()(serve)
app.command()(play)
app.command("list")(list_)
app.command()(generate)
app.command()(record)
app.command()(train)
app.command()(challenge)


def main() -> None:
    """Run the command.

    Exit status 0 when done, 2 on bad input, 1 on anything else, 130 on Ctrl-C, 143 on SIGTERM, 129 on SIGHUP: that of
    the first signal, if several come.
    """
    stops = StopSignals()
    stops.install()
    status = _run()
    stops.ignore()
    sys.exit(status)


def _run() -> int:
    """Run the command, print its error in one line, and return its exit status."""
    try:
        return app(sys.argv[1:] or ["--help"], prog_name="synthfm", standalone_mode=False) or 0
    except InputError as error:
        return _failed(str(error), 2)
    except UserFacingError as error:
        return _failed(str(error), 1)
    except TyperException as error:
        context = getattr(error, "ctx", None)
        see = f" See: {context.command_path} --help" if context else ""
        return _failed(error.format_message().replace("Value error, ", "") + see, 2)
    except (KeyboardInterrupt, typer.Abort) as stop:
        cause = stop.__cause__ if isinstance(stop, typer.Abort) else stop
        return _failed("stopped", status_of(cause) if isinstance(cause, KeyboardInterrupt) else 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what reads our output has gone, as `| head` does
        return 1
    except Exception as error:
        if os.environ.get(TRACEBACK):
            raise
        return _failed(f"{_cause_of(error)}; to see where, run it again with {TRACEBACK}=1 in front", 1)


def _cause_of(error: Exception) -> str:
    """Return what an error outside the program's control means, or what an unexpected one is."""
    if isinstance(error, MemoryError):
        return "out of memory: close other programs, take a smaller volume or fewer --workers"
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}"
    return error_line(error)


def _failed(message: str, status: int) -> int:
    complain(message)
    return status
