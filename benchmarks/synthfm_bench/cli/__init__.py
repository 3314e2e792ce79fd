"""The ``synthfm`` command, one file a command."""

from synthfm_bench.cli.app import main

__all__ = ["main"]
