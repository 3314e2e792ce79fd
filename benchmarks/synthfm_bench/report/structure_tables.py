"""Tables by modality and structure, and papers' tables with their printed figures, as Markdown and CSV."""

from collections.abc import Sequence

from synthfm_bench.analysis.aggregate import LeaderboardRow, by_group, select
from synthfm_bench.analysis.columns import dice_at
from synthfm_bench.analysis.comparisons import Comparison, compare_group
from synthfm_bench.analysis.structures import (
    PrintedRow,
    PrintedTable,
    as_printed,
    by_structure,
    last_dice,
    mean_over_structures,
    printed_tables,
)
from synthfm_bench.report.markdown import escaped, table
from synthfm_bench.results.csv_text import csv_text
from synthfm_env.volumes.structure_names import structure_kind

_HOW = (
    "Dice in percent after the last prompt: means over cases, all slices, images and instances of a case averaged "
    "first, pooled over data sets. Tests compare the best segmenter of a row with the next one on the means of their "
    "cases: p (t) is the paired t-test that the papers use, p (W) the two-sided Wilcoxon signed-rank test, adjusted by "
    "Holm over all pairs of the row."
)
_PRINTED = (
    'Columns that begin with "printed:" are the paper\'s own figures, on its own choice of cases and slices, which is '
    "not public. The text at hand has lost which pair of positives and negatives heads which of its columns: the order "
    "here is the one that its figures suggest."
)
_STRUCTURES = ("modality", "structure", "segmenter", "clicker", "cases", "episodes", "dice", "low", "high", "failed")


def csv_structures(rows: Sequence[LeaderboardRow]) -> str:
    """Return one line for each modality, structure, segmenter and clicker, with full precision."""
    lines: list[tuple[object, ...]] = [_STRUCTURES]
    for row in by_structure(rows):
        found = row.estimate(dice_at(row.budget))
        assert found is not None, "every episode has a Dice"
        of = row.episodes[0]
        names = (of.modality, structure_kind(of.structure), row.segmenter, row.clicker)
        sizes = (len(row.cases), len(row.episodes), found.mean, found.low, found.high, sum(row.failures.values()))
        lines.append((*names, *sizes))
    return csv_text(lines)


def markdown_structures(rows: Sequence[LeaderboardRow], heading: str) -> str:
    """Return a table for each clicker: a row for each modality and structure, a column for each segmenter."""
    parts = [f"# {escaped(heading)}: by modality and structure"]
    board = by_structure(rows)
    segmenters = list(dict.fromkeys(row.segmenter for row in rows))
    for clicker in dict.fromkeys(row.clicker for row in rows):
        chosen = select(board, lambda episode, clicker=clicker: episode.clicker == clicker)  # type: ignore[misc]
        lines = []
        for group in sorted(by_group(chosen).values(), key=_order):
            of = group[0].episodes[0]
            lines.append([of.modality, structure_kind(of.structure), *_figures(group, segmenters)])
        parts += [f"## {escaped(clicker)}", table(["modality", "structure", *map(escaped, segmenters), *_TESTS], lines)]
    return "\n\n".join([*parts, _HOW]) + "\n"


def markdown_paper(rows: Sequence[LeaderboardRow], suite: str) -> str | None:
    """Return a paper's table with its rows, the figures of this run and the printed ones; None if it is no paper's.

    A row of which nothing was played stays, with dashes.
    """
    printed = printed_tables().get(suite)
    if printed is None:
        return None
    segmenters = list(dict.fromkeys(row.segmenter for row in rows))
    parts = [f"# {printed.title}"]
    for prompt in printed.prompts:
        of_prompt = [row for row in rows if row.clicker == prompt]
        headings = [
            "modality",
            "structure",
            *map(escaped, segmenters),
            *_TESTS,
            *(f"printed: {m}" for m in printed.methods),
        ]
        lines = [_line(of_prompt, row, printed, prompt, segmenters) for row in printed.rows]
        parts += [f"## {escaped(prompt)}", table(headings, lines)]
    return "\n\n".join([*parts, _HOW, _PRINTED]) + "\n"


_TESTS = ("cases", "p (t)", "p (W)")


def _line(
    rows: Sequence[LeaderboardRow], printed: PrintedRow, of: PrintedTable, prompt: str, segmenters: Sequence[str]
) -> list[str]:
    """Return the cells of one row of a paper's table: names, this run's Dice and tests, printed Dice."""
    values = [f"{printed.values[method, prompt]:.2f}" for method in of.methods]
    if printed.structures:
        figures = _figures(as_printed(rows, printed), segmenters)
    else:
        figures = _means(rows, printed, segmenters)
    return [printed.modality, printed.name, *figures, *values]


def _means(rows: Sequence[LeaderboardRow], printed: PrintedRow, segmenters: Sequence[str]) -> list[str]:
    """Return the means over the structures of a modality, and no tests: they have no cases in common."""
    structures = [structure for row in printed_tables()["synthfm-table1"].rows for structure in row.structures]
    chosen = select(rows, lambda e: e.modality == printed.modality and structure_kind(e.structure) in structures)
    means = mean_over_structures(chosen)
    found = {segmenter: value for (segmenter, _), value in means.items()}
    cases = {case for row in chosen for case in row.cases}
    shown = [f"{100 * found[name]:.2f}" if name in found else "-" for name in segmenters]
    return [*shown, str(len(cases)), "-", "-"]


def _figures(group: Sequence[LeaderboardRow], segmenters: Sequence[str]) -> list[str]:
    """Return each segmenter's figure, the number of cases, and both p of the best against the next one."""
    by_name = {row.segmenter: row for row in group}
    shown = [f"{100 * last_dice(by_name[name]):.2f}" if name in by_name else "-" for name in segmenters]
    cases = max((len(row.cases) for row in group), default=0)
    best = sorted(by_name.values(), key=last_dice, reverse=True)[:2]
    pair = _pair(group, best) if len(best) == 2 else None
    tests = [pair.pair.p_t, pair.pair.p_holm] if pair else [None, None]
    return [*shown, str(cases), *(_p(value) for value in tests)]


def _pair(group: Sequence[LeaderboardRow], best: Sequence[LeaderboardRow]) -> Comparison | None:
    """Return the comparison of the two best segmenters; None if they share no case."""
    names = {row.segmenter for row in best}
    found = compare_group(group, dice_at(group[0].budget))
    return next((c for c in found if c.of == "segmenters" and {c.pair.better, c.pair.worse} == names), None)


def _p(value: float | None) -> str:
    """Return a p-value as the tables show it."""
    if value is None:
        return "-"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _order(group: Sequence[LeaderboardRow]) -> tuple[int, str]:
    """Return the sort key of a group: CT, MR and ultrasound first, then other modalities."""
    modality = group[0].episodes[0].modality
    order = ("CT", "MR", "US")
    return order.index(modality) if modality in order else len(order), group[0].data_id
