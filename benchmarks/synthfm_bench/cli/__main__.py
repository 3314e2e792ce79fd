"""Runs the command: ``python -m synthfm_bench.cli``."""

from synthfm_bench.cli import main

main()
