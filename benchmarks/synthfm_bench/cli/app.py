"""The ``synthfm`` command. Heavy imports sit inside the commands, so that ``synthfm --help`` is quick."""

import os
import sys

import typer
from typer.exceptions import TyperException

from synthfm_bench.cli.bench import bench
from synthfm_bench.cli.datasets import datasets
from synthfm_bench.cli.generate import generate
from synthfm_bench.cli.list import list_
from synthfm_bench.cli.messages import complain
from synthfm_bench.cli.play import play
from synthfm_bench.cli.record import record
from synthfm_bench.cli.report import report
from synthfm_bench.cli.segment import segment
from synthfm_bench.cli.serve import serve
from synthfm_bench.cli.train import train
from synthfm_bench.cli.verify import verify
from synthfm_env.errors import InputError

TRACEBACK = "SYNTHFM_TRACEBACK"

app = typer.Typer(
    name="synthfm",
    help="Benchmark promptable 3D segmentation: clickers (who clicks) with segmenters (what answers), on "
    "synthetic volumes and on your own. Start with `synthfm bench quick`.",
    epilog="Volumes are NIfTI files; clicks and shapes are z,y,x in voxels. Exit status: 0 done, 2 bad "
    "input, 1 anything else.",
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


def main() -> None:
    """Run the command: exit status 0 when done, 2 on bad input, 130 on Ctrl-C, 1 on anything else."""
    sys.path.append(os.getcwd())  # a segmenter or clicker of the user's own, module:Class, may lie here
    try:
        status = app(sys.argv[1:] or ["--help"], prog_name="synthfm", standalone_mode=False) or 0
    except InputError as error:
        complain(str(error))
        status = 2
    except TyperException as error:
        context = getattr(error, "ctx", None)
        see = f" See: {context.command_path} --help" if context else ""
        complain(error.format_message().replace("Value error, ", "") + see)
        status = 2
    except Exception as error:
        if os.environ.get(TRACEBACK):
            raise
        complain(f"{type(error).__name__}: {error}; to see where, run it again with {TRACEBACK}=1 in front")
        status = 1
    sys.exit(status)
