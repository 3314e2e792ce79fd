"""The board's files in a run's directory."""

from collections.abc import Sequence
from pathlib import Path

from synthfm_bench.analysis.aggregate import Row
from synthfm_bench.analysis.comparisons import csv_pairs
from synthfm_bench.report.csv_board import csv_board
from synthfm_bench.report.markdown import markdown_board
from synthfm_env.files import write_text


def write_tables(folder: Path, heading: str, rows: Sequence[Row]) -> None:
    """Write ``leaderboard.md``, ``leaderboard.csv`` and ``pairs.csv`` into a folder."""
    write_text(folder / "leaderboard.csv", csv_board(rows))
    write_text(folder / "leaderboard.md", markdown_board(rows, heading))
    write_text(folder / "pairs.csv", csv_pairs(rows))
