"""Aggregates episodes to one row for each data group, segmenter and clicker."""

import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from synthfm_bench.analysis.columns import NAUC, TARGETS, Column, dice_columns, other_columns, primary_column
from synthfm_bench.analysis.statistics import Estimate, estimate, rank_intervals
from synthfm_bench.results.episode_result import EpisodeResult
from synthfm_env.errors import InputError


@dataclass(frozen=True, eq=False)
class LeaderboardRow:
    """The results of one segmenter with one clicker on one group of data.

    Attributes:
        data_id: the group.
        segmenter: name of the segmenter.
        clicker: name of the clicker.
        episodes: of the row.
        encode_seconds: the segmenter's mean time to encode an image, over all clickers; None if it encoded none.
        targets: Dice values for the number of clicks.
    """

    data_id: str
    segmenter: str
    clicker: str
    episodes: tuple[EpisodeResult, ...]
    encode_seconds: float | None
    targets: tuple[float, ...]

    @property
    def oracle(self) -> bool:
        """Whether the clicker sees the truth."""
        return any(episode.oracle for episode in self.episodes)

    @property
    def budget(self) -> int:
        """The click budget."""
        return self.episodes[0].max_clicks

    @property
    def columns(self) -> list[Column]:
        """The columns: Dice after some clicks, nAUC, and the rest."""
        tolerances = {step.tol_mm for episode in self.episodes for step in episode.steps[:1]}
        return [*dice_columns(self.budget), NAUC, *other_columns(tolerances.pop() if len(tolerances) == 1 else None)]

    @property
    def figures(self) -> list[Column]:
        """``columns`` by their earlier name."""
        warnings.warn("LeaderboardRow.figures is now columns", DeprecationWarning, stacklevel=2)
        return self.columns

    @property
    def primary(self) -> Column:
        """The figure that rows are ranked by."""
        return primary_column(self.budget)

    @cached_property
    def cases(self) -> dict[str, tuple[EpisodeResult, ...]]:
        """The episodes of each case, cases in alphabetical order."""
        found: dict[str, list[EpisodeResult]] = defaultdict(list)
        for episode in self.episodes:
            found[episode.case_id].append(episode)
        return {case: tuple(found[case]) for case in sorted(found)}

    @cached_property
    def case_curves(self) -> dict[str, NDArray[np.float64]]:
        """Dice of each case after click 1, 2, ... up to the budget, averaged over its structures."""
        return {case: np.mean([e.dice for e in episodes], axis=0) for case, episodes in self.cases.items()}

    @property
    def curve(self) -> list[Estimate]:
        """Mean Dice over cases after click 1, 2, ... up to the budget, with intervals."""
        return [estimate(scores) for scores in np.array(list(self.case_curves.values())).T]

    def case_values(self, column: Column) -> dict[str, float]:
        """Return a figure of each case: the mean over its episodes with a figure. Cases without one have no entry."""
        values = {case: [column.of(episode) for episode in episodes] for case, episodes in self.cases.items()}
        known = {case: [value for value in found if value is not None] for case, found in values.items()}
        return {case: float(np.mean(found)) for case, found in known.items() if found}

    def estimate(self, column: Column) -> Estimate | None:
        """Return the mean over cases with its interval; None if no case has the figure."""
        values = list(self.case_values(column).values())
        return estimate(values) if values else None

    def clicks_to(self, target: float) -> tuple[float, int | None]:
        """Return the share of episodes that reached a Dice, and the median number of clicks to it over all episodes.

        Episodes that never reached it count as the slowest. The median is None if it is one of them.
        """
        clicks = sorted(episode.clicks_to(target) or np.inf for episode in self.episodes)
        middle = clicks[(len(clicks) - 1) // 2]
        return float(np.mean(np.isfinite(clicks))), int(middle) if np.isfinite(middle) else None

    @property
    def seconds_per_click(self) -> float | None:
        """The segmenter's mean time for a click, without encoding; None if it never answered."""
        return _mean(step.t_predict_s for episode in self.episodes for step in episode.steps)

    @property
    def clicker_seconds(self) -> float | None:
        """The clicker's mean time for a click; None if no click was timed."""
        return _mean(step.t_click_s for episode in self.episodes for step in episode.steps)

    @property
    def clicker_answers(self) -> float | None:
        """Mean number of answers that the clicker asked a segmenter for before a click; None for people."""
        return _mean(step.clicker_answers for episode in self.episodes for step in episode.steps)

    @property
    def peak_memory_mib(self) -> float | None:
        """Peak memory of the segmenter's process in MiB; None if it was not measured."""
        return max((m for episode in self.episodes if (m := episode.peak_memory_mib) is not None), default=None)

    @property
    def failures(self) -> dict[str, int]:
        """Number of episodes that ended in each kind of failure."""
        return dict(sorted(Counter(episode.failure for episode in self.episodes if episode.failure).items()))


def make_board(episodes: Iterable[EpisodeResult], targets: Sequence[float] = TARGETS) -> list[LeaderboardRow]:
    """Return the board's rows: groups with more cases first; within a group by clicker, then by the primary figure.

    Every episode counts with its whole budget, see ``EpisodeResult.dice``. Structures are averaged within a case, then
    the cases are averaged.

    Args:
        episodes: of one run, or of several merged ones.
        targets: Dice values for the number of clicks (NoC).

    Raises:
        InputError: episodes of one group differ in budget.
    """
    played: dict[tuple[str, str, str], list[EpisodeResult]] = defaultdict(list)
    encodes: dict[tuple[str, str], list[float]] = defaultdict(list)  # an image is encoded once for all clickers
    budgets: dict[str, set[int]] = defaultdict(set)
    for episode in sorted(episodes, key=lambda e: e.episode_id):
        played[(episode.data_id, episode.segmenter, episode.clicker)].append(episode)
        budgets[episode.data_id].add(episode.max_clicks)
        if episode.encode_seconds:
            encodes[(episode.data_id, episode.segmenter)].append(episode.encode_seconds)
    for data_id, found in budgets.items():
        if len(found) > 1:
            raise InputError(f"{data_id}: episodes differ in their click budget: {', '.join(map(str, sorted(found)))}")
    rows = [
        LeaderboardRow(data_id, segmenter, clicker, tuple(found), _mean(encodes[(data_id, segmenter)]), tuple(targets))
        for (data_id, segmenter, clicker), found in played.items()
    ]
    cases = {data_id: max(len(row.cases) for row in group) for data_id, group in by_group(rows).items()}
    return sorted(rows, key=lambda row: (-cases[row.data_id], row.data_id, row.clicker, -_score(row), row.segmenter))


def by_group(rows: Iterable[LeaderboardRow]) -> dict[str, list[LeaderboardRow]]:
    """Return the rows of each data group, in their present order."""
    groups: dict[str, list[LeaderboardRow]] = defaultdict(list)
    for row in rows:
        groups[row.data_id].append(row)
    return dict(groups)


def ranks(group: Sequence[LeaderboardRow]) -> list[tuple[int, int, int] | None]:
    """Return rank, lowest and highest rank of each row of a group among the rows of the same clicker.

    Rows are ranked by the primary figure on the cases that all of them have. A row without another one to compare with,
    or without a common case, has None.
    """
    found: dict[int, tuple[int, int, int]] = {}
    for clicker in {row.clicker for row in group}:
        places = [place for place, row in enumerate(group) if row.clicker == clicker]
        values = [group[place].case_values(group[place].primary) for place in places]
        shared = sorted(set.intersection(*(set(v) for v in values)))
        if len(places) > 1 and shared:
            table = np.array([[v[case] for v in values] for case in shared])
            found |= zip(places, rank_intervals(table), strict=True)
    return [found.get(place) for place in range(len(group))]


def select(rows: Iterable[LeaderboardRow], wanted: Callable[[EpisodeResult], bool]) -> list[LeaderboardRow]:
    """Return the rows with the wanted episodes alone; rows without one are left out."""
    kept = []
    for row in rows:
        episodes = tuple(filter(wanted, row.episodes))
        if episodes:
            kept.append(replace(row, episodes=episodes))
    return kept


def _score(row: LeaderboardRow) -> float:
    return float(np.mean(list(row.case_values(row.primary).values())))


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
