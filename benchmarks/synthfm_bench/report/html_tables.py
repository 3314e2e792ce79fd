"""Builds the report's tables; each cell has a text and a sort key."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from synthfm_bench.analysis.aggregate import LeaderboardRow, by_group, ranks, select
from synthfm_bench.analysis.columns import Column, dice_at, dice_columns
from synthfm_bench.analysis.comparisons import compare_group
from synthfm_bench.report.cells import clicker_label, failures, seconds, show_clicks, show_rank
from synthfm_bench.results.episode_result import EpisodeResult
from synthfm_env.volumes.structure_names import structure_kind

_MOST_STRUCTURES = 60
MOST_FAILURES = 200


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: as shown.
        value: sort key; None sorts last.
        interval: shown small below the text.
    """

    text: str
    value: float | str | None
    interval: str = ""


@dataclass(frozen=True)
class Table:
    """A sortable table.

    Attributes:
        headings: name of each column and what it means.
        rows: cells.
    """

    headings: list[tuple[str, str]]
    rows: list[list[Cell]]


def board_table(group: Sequence[LeaderboardRow]) -> Table:
    """Return the board of one group with every column."""
    columns = group[0].columns
    # Headings: names, figures with the rank after Dice and nAUC, clicks to a target, costs.
    headings = [("segmenter", ""), ("clicker", "oracle: sees the truth; blind: does not")]
    headings += [(column.name, column.meaning) for column in columns]
    ranked = f"By {group[0].primary.name} among rows with the same clicker, with its 95 % interval."
    headings.insert(2 + _count_of_dice_columns(group), ("rank", ranked))
    headings += [
        (
            f"NoC@{100 * target:g}",
            f"Median number of clicks to Dice {target:g}, and the share of episodes that reached it.",
        )
        for target in group[0].targets
    ]
    headings += [
        ("s/click", "Seconds of the segmenter for a click, without encoding."),
        ("encode s", "Seconds for an image, paid once."),
        ("clicker s", "Seconds of the clicker for a click."),
        ("clicker answers", "Answers that the clicker asks a segmenter for itself before a click."),
        ("MiB", "Most memory that the process held."),
        ("failed", "Episodes that failed, by kind; they score 0 from the failed click on."),
    ]
    # Cells of each row, in the same order.
    rows = []
    for row, rank in zip(group, ranks(group), strict=True):
        cells = [Cell(row.segmenter, row.segmenter), Cell(clicker_label(row), row.clicker)]
        text, _, interval = show_rank(rank).partition(" ")
        cells += [column_cell(row, column) for column in columns]
        cells.insert(2 + _count_of_dice_columns(group), Cell(text, None if rank is None else rank[0], interval))
        for target in row.targets:
            text, _, share = show_clicks(row, target).rpartition(" (")
            reached, median = row.clicks_to(target)
            cells.append(Cell(text, row.budget + 2 - reached if median is None else median, f"({share}"))
        memory = row.peak_memory_mib
        cells += [Cell(seconds(value), value) for value in (row.seconds_per_click, row.encode_seconds)]
        asked = row.clicker_answers
        cells.append(Cell(seconds(row.clicker_seconds), row.clicker_seconds))
        cells.append(Cell("-" if asked is None else f"{asked:.1f}", asked))
        cells.append(Cell("-" if memory is None else f"{memory:.0f}", memory))
        cells.append(Cell(failures(row), sum(row.failures.values())))
        rows.append(cells)
    return Table(headings, rows)


def pairs_table(group: Sequence[LeaderboardRow]) -> Table:
    """Return all pairs of a group by the primary figure."""
    headings = [
        ("better", "The one with the higher mean."),
        ("worse", ""),
        ("on", "The clicker or segmenter that both share."),
        ("difference", "Mean over cases of better minus worse, with its 95 % BCa interval."),
        ("median", "Median difference over cases."),
        ("cases won", "Cases in which better is ahead, of all."),
        ("p (Holm)", "Wilcoxon signed-rank on case means, Holm-adjusted over all pairs of this table."),
        ("p", "The same before the adjustment."),
        ("p (t)", "Paired t-test, unadjusted, as many papers report it."),
        ("rank-biserial", "Effect size of the signed-rank test, from -1 to 1."),
        ("d_z", "Effect size of the t-test: mean over standard deviation of the differences."),
        ("detectable", "Minimal detectable difference: significant with 80 % power, given the number of cases."),
    ]
    rows = []
    for comparison in compare_group(group, group[0].primary):
        pair, mean = comparison.pair, comparison.pair.difference
        interval = "" if mean.low is None else f"[{mean.low:.3f}, {mean.high:.3f}]"
        rows.append(
            [
                Cell(pair.better, pair.better),
                Cell(pair.worse, pair.worse),
                Cell(comparison.held, comparison.held),
                Cell(f"{mean.mean:.3f}", mean.mean, interval),
                Cell(f"{pair.median:.3f}", pair.median),
                Cell(f"{pair.wins} of {mean.cases}", pair.wins / mean.cases),
                *(_p(value) for value in (pair.p_holm, pair.p_wilcoxon, pair.p_t)),
                Cell(f"{pair.rank_biserial:.2f}", pair.rank_biserial),
                Cell("-" if pair.cohen_dz is None else f"{pair.cohen_dz:.2f}", pair.cohen_dz),
                Cell("none" if pair.detectable is None else f"{pair.detectable:.3f}", pair.detectable),
            ]
        )
    return Table(headings, rows)


def split_table(rows: Sequence[LeaderboardRow], heading: str, part: Callable[[EpisodeResult], str]) -> Table | None:
    """Return the scores of each structure, or of each modality, in each group; None if there is only one.

    Args:
        rows: the board.
        heading: of the column of parts, for example "structure".
        part: returns the part that an episode belongs to.
    """
    lines, kinds = [], set()
    budget = 1
    for name, group in by_group(rows).items():
        values = sorted({part(episode) for row in group for episode in row.episodes})
        kinds |= {(name, value) for value in values}
        budget = group[0].budget
        for value in values:
            for row in select(group, lambda episode, value=value: part(episode) == value):  # type: ignore[misc]
                cells = [Cell(name, name), Cell(value, value), Cell(row.segmenter, row.segmenter)]
                cells += [Cell(clicker_label(row), row.clicker), Cell(str(len(row.cases)), len(row.cases))]
                by_key = {column.key: column for column in row.columns}
                shown = (dice_at(1), row.primary, dice_at(row.budget), by_key["nauc"], by_key["nsd"])
                lines.append([*cells, *(column_cell(row, column) for column in shown)])
    if len({value for _, value in kinds}) < 2 or len(kinds) > _MOST_STRUCTURES:
        return None
    scores = ["Dice@1", rows[0].primary.name, f"Dice@{budget}", "nAUC", "NSD"]
    names = ["data", heading, "segmenter", "clicker", "cases", *scores]
    return Table([(name, "") for name in names], lines)


def failures_table(rows: Iterable[LeaderboardRow]) -> Table | None:
    """Return the episodes that failed, the first ``MOST_FAILURES``; None if none did."""
    failed = [(row, episode) for row in rows for episode in row.episodes if episode.failure]
    lines = []
    for row, episode in failed[:MOST_FAILURES]:
        last = episode.steps[-1]
        texts = (row.data_id, episode.case_id, episode.structure, row.segmenter, row.clicker, last.outcome)
        cells = [Cell(text, text) for text in texts]
        lines.append([*cells, Cell(str(last.step), last.step), Cell(last.error or "", last.error or "")])
    names = ("data", "case", "structure", "segmenter", "clicker", "how", "at click", "message")
    return Table([(name, "") for name in names], lines) if lines else None


def kind_of_structure(episode: EpisodeResult) -> str:
    """Return a structure's name; of one of several instances its kind, without the number."""
    return structure_kind(episode.structure)


def column_cell(row: LeaderboardRow, column: Column) -> Cell:
    """Return a row's mean of a figure, with its interval."""
    found = row.estimate(column)
    if found is None:
        return Cell("-", None)
    interval = "" if found.low is None else f"[{column.show(found.low)}, {column.show(found.high)}]"
    return Cell(column.show(found.mean), found.mean, interval)


def _count_of_dice_columns(group: Sequence[LeaderboardRow]) -> int:
    """Return how many columns come before the rank: Dice, and the area under its curve."""
    return len(dice_columns(group[0].budget)) + 1


def _p(value: float | None) -> Cell:
    if value is None:
        return Cell("-", None)
    return Cell("< 0.001" if value < 0.001 else f"{value:.3f}", value)
