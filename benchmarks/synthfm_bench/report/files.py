"""Writes the board's files into a run's directory."""

from collections.abc import Sequence
from pathlib import Path

from synthfm_bench.analysis.aggregate import LeaderboardRow
from synthfm_bench.analysis.comparisons import csv_pairs
from synthfm_bench.publish.cvpr25_scores import csv_scores
from synthfm_bench.report.csv_board import csv_board
from synthfm_bench.report.markdown import markdown_board
from synthfm_bench.report.structure_tables import csv_structures, markdown_paper, markdown_structures
from synthfm_env.files import write_text


def write_tables(folder: Path, suite: str, digest: str, rows: Sequence[LeaderboardRow]) -> None:
    """Write the tables of a run into its folder.

    ``leaderboard.md`` and ``.csv``, ``pairs.csv``, ``structures.md`` and ``.csv``, ``paper.md`` for a suite that
    plays a table of a paper, and ``cvpr25.csv`` if the challenge's clicks were played.

    Args:
        folder: of the run.
        suite: its name.
        digest: the results hash.
        rows: the board.
    """
    heading = f"{suite}: results {digest[:12]}"
    write_text(folder / "leaderboard.csv", csv_board(rows))
    write_text(folder / "leaderboard.md", markdown_board(rows, heading))
    write_text(folder / "pairs.csv", csv_pairs(rows))
    write_text(folder / "structures.csv", csv_structures(rows))
    write_text(folder / "structures.md", markdown_structures(rows, heading))
    paper = markdown_paper(rows, suite)
    if paper is not None:
        write_text(folder / "paper.md", paper)
    challenge = csv_scores(rows)
    if challenge is not None:
        write_text(folder / "cvpr25.csv", challenge)
