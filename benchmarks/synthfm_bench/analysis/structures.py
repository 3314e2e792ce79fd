"""Splits the board by modality and structure, pooled over data sets, as in a paper's table."""

import tomllib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from synthfm_bench.analysis.aggregate import LeaderboardRow, by_group, make_board
from synthfm_bench.results.episode_result import EpisodeResult
from synthfm_env.volumes.structure_names import structure_kind

PRINTED = Path(__file__).parent / "printed.toml"
ALL = "all"


@dataclass(frozen=True)
class PrintedRow:
    """One row of a paper's table.

    Attributes:
        modality: as in the records.
        name: the row's, as printed.
        structures: that the row pools; empty for the mean over the structures of the modality.
        values: printed Dice in percent, by method and prompt.
    """

    modality: str
    name: str
    structures: tuple[str, ...]
    values: dict[tuple[str, str], float]


@dataclass(frozen=True)
class PrintedTable:
    """A paper's table.

    Attributes:
        title: the paper and the table.
        methods: the paper's columns.
        prompts: the names of the clickers that stand for its prompt columns.
        rows: in the paper's order.
    """

    title: str
    methods: tuple[str, ...]
    prompts: tuple[str, ...]
    rows: tuple[PrintedRow, ...]


@cache
def printed_tables() -> dict[str, PrintedTable]:
    """Return the tables that are printed in papers, by the name of the suite that plays them."""
    content = tomllib.loads(PRINTED.read_text(encoding="utf-8"))
    return {name: _table(fields) for name, fields in content.items()}


def _table(fields: dict[str, Any]) -> PrintedTable:
    """Return a paper's table from its TOML form."""
    methods, prompts = tuple(fields["methods"]), tuple(fields["prompts"])
    columns = [(method, prompt) for method in methods for prompt in prompts]
    rows = [
        PrintedRow(
            row["modality"],
            row["name"],
            tuple(row.get("structures", ())),
            dict(zip(columns, row["values"], strict=True)),
        )
        for row in fields["rows"]
    ]
    return PrintedTable(fields["title"], methods, prompts, tuple(rows))


def by_structure(rows: Iterable[LeaderboardRow]) -> list[LeaderboardRow]:
    """Return the board of modality and structure: groups such as "CT liver", pooled over the groups of data.

    Instances are pooled by kind, see ``structure_kind``. Cases of two data sets stay apart if they share a name.
    """
    episodes, targets = _episodes(rows)
    return make_board([_moved(e, f"{e.modality} {structure_kind(e.structure)}") for e in episodes], targets)


def as_printed(rows: Iterable[LeaderboardRow], printed: PrintedRow, among: Sequence[str] = ()) -> list[LeaderboardRow]:
    """Return the board of one row of a paper's table, empty if nothing of it was played.

    Args:
        rows: the board.
        printed: the row.
        among: the structures whose mean a row without structures of its own is.
    """
    wanted = set(printed.structures or among)
    episodes, targets = _episodes(rows)
    chosen = [e for e in episodes if e.modality == printed.modality and structure_kind(e.structure) in wanted]
    return make_board([_moved(e, printed.name) for e in chosen], targets) if chosen else []


def mean_over_structures(rows: Iterable[LeaderboardRow]) -> dict[tuple[str, str], float]:
    """Return the mean over structures of the mean Dice over cases after the last prompt, by segmenter and clicker."""
    means: dict[tuple[str, str], list[float]] = defaultdict(list)
    for group in by_group(by_structure(rows)).values():
        for row in group:
            means[row.segmenter, row.clicker].append(last_dice(row))
    return {key: sum(values) / len(values) for key, values in means.items()}


def last_dice(row: LeaderboardRow) -> float:
    """Return a row's mean over cases of Dice after the last prompt."""
    curves = row.case_curves.values()
    return float(sum(curve[-1] for curve in curves) / len(curves))


def _episodes(rows: Iterable[LeaderboardRow]) -> tuple[list[EpisodeResult], tuple[float, ...]]:
    found = list(rows)
    return [episode for row in found for episode in row.episodes], found[0].targets if found else ()


def _moved(episode: EpisodeResult, group: str) -> EpisodeResult:
    """Return an episode as one of another group."""
    case = f"{episode.data_id}: {episode.case_id}"
    return EpisodeResult(tuple(replace(step, data_id=group, case_id=case) for step in episode.steps))
