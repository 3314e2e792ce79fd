"""Compares all pairs of a board's rows: one sentence and one line of CSV for each."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from synthfm_bench.analysis.aggregate import LeaderboardRow, by_group
from synthfm_bench.analysis.columns import Column
from synthfm_bench.analysis.statistics import LEVEL, Pair, compare
from synthfm_bench.results.csv_text import csv_text

_COLUMNS = (
    *("data", "compared", "held", "figure", "better", "worse", "cases", "difference", "low", "high", "median"),
    *("wins", "losses", "p_wilcoxon", "p_holm", "pairs", "p_t", "rank_biserial", "cohen_dz", "detectable"),
)
_LEVEL = 0.0005  # means closer than this read the same with three decimals


@dataclass(frozen=True)
class Comparison:
    """Two rows of a group that differ in one thing.

    Attributes:
        data_id: the group.
        held: what both share, for example "with ritm-3d-v1" or "of geodesic".
        of: "segmenters" or "clickers", what is compared.
        column: the figure that is compared.
        pair: the statistics.
    """

    data_id: str
    held: str
    of: str
    column: Column
    pair: Pair

    @property
    def figure(self) -> Column:
        """``column`` by its earlier name."""
        warnings.warn("Comparison.figure is now column", DeprecationWarning, stacklevel=2)
        return self.column


def compare_group(group: Sequence[LeaderboardRow], column: Column) -> list[Comparison]:
    """Compare all pairs of segmenters with the same clicker, and of clickers with the same segmenter.

    Cases that one of the two lacks are left out of a pair. Holm's correction is over all pairs of the group. A figure
    of which less is better is compared with its sign turned, so that the better one still comes first.
    """
    kinds = []
    for one, other in combinations(group, 2):
        if one.clicker == other.clicker:
            kinds.append((0, f"with {one.clicker}", "segmenters", one.segmenter, other.segmenter, one, other))
        elif one.segmenter == other.segmenter:
            kinds.append((1, f"of {one.segmenter}", "clickers", one.clicker, other.clicker, one, other))
    kinds.sort(key=lambda kind: kind[0])
    sign = 1 if column.higher else -1
    found, scores = [], []
    for _, held, of, first, second, one, other in kinds:
        a, b = one.case_values(column), other.case_values(column)
        shared = [case for case in a if case in b]
        if shared:
            found.append((held, of))
            scores.append(
                (first, sign * np.array([a[c] for c in shared]), second, sign * np.array([b[c] for c in shared]))
            )
    pairs = zip(found, compare(scores), strict=True)
    return [Comparison(group[0].data_id, held, of, column, pair) for (held, of), pair in pairs]


def sentence(comparison: Comparison) -> str:
    """Describe a pair, for example "A leads B by 3.1 Dice points [1.2, 5.0], p = 0.003 (Holm)"."""
    pair, column = comparison.pair, comparison.column
    scale, unit = {
        "score": (100, f"{column.name.partition('@')[0]} points"),
        "share": (100, f"points of {column.name}"),
        "mm": (1, column.name),
    }[column.unit]
    cases = pair.difference.cases

    def points(value: float) -> str:
        return f"{scale * value:.1f}".replace("-0.0", "0.0")

    # Who leads, by how much, in how many cases
    if abs(pair.difference.mean) < _LEVEL:
        text = f"{pair.better} and {pair.worse} are equal"
    else:
        text = f"{pair.better} leads {pair.worse} by {points(pair.difference.mean)} {unit}"
    if pair.difference.low is not None and pair.difference.high is not None:
        text += f" [{points(pair.difference.low)}, {points(pair.difference.high)}]"
    if cases > 1:
        text += f", better in {pair.wins} of {cases} cases"
    # Whether that is significant
    if pair.p_holm is None:
        return f"{text}; {cases} case{'s are' if cases > 1 else ' is'} too few for a test"
    text += f", p {_p(pair.p_holm)} (Holm)"
    if pair.p_holm <= LEVEL:
        return text
    if pair.detectable is None:
        return f"{text}: not significant (n = {cases}, too few for any difference)"
    return f"{text}: not significant (n = {cases}, minimal detectable difference {points(pair.detectable)})"


def verdict(group: Sequence[LeaderboardRow], most: int | None = None) -> list[str]:
    """Return a sentence for each pair of one group of data in the primary figure, and one for each row with failures.

    Args:
        group: rows of one group.
        most: pairs beyond this number are counted only.
    """
    primary = group[0].primary
    comparisons = compare_group(group, primary)
    lines = [f"{comparison.held}: {sentence(comparison)}." for comparison in comparisons[:most]]
    if most is not None and len(comparisons) > most:
        lines.append(f"{len(comparisons) - most} more pairs are in leaderboard.md.")
    for row in group:
        if row.failures:
            failed = sum(row.failures.values())
            lines.append(f"{row.segmenter} failed in {failed} of {len(row.episodes)} episodes with {row.clicker}.")
    if len(group[0].cases) == 1:
        lines.append("One case is an example, not a ranking.")
    return lines


def csv_pairs(rows: Iterable[LeaderboardRow]) -> str:
    """Return all pairs in all figures as CSV with full precision: better over worse, in the figure's own unit."""
    lines: list[Sequence[object]] = [_COLUMNS]
    for group in by_group(rows).values():
        for column in group[0].columns:
            for comparison in compare_group(group, column):
                pair, mean = comparison.pair, comparison.pair.difference
                names = [comparison.data_id, comparison.of, comparison.held, column.key, pair.better, pair.worse]
                size = [mean.cases, mean.mean, mean.low, mean.high, pair.median, pair.wins, pair.losses]
                tests = [pair.p_wilcoxon, pair.p_holm, pair.pairs, pair.p_t]
                lines.append([*names, *size, *tests, pair.rank_biserial, pair.cohen_dz, pair.detectable])
    return csv_text(lines)


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"
