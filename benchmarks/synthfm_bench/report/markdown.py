"""Writes the board as Markdown, for a paper's appendix."""

import re
from collections.abc import Iterable, Sequence

from synthfm_bench.analysis.aggregate import LeaderboardRow, by_group, ranks
from synthfm_bench.analysis.comparisons import verdict
from synthfm_bench.report.cells import (
    board_columns,
    clicker_label,
    failures,
    price,
    seconds,
    show_clicks,
    show_rank,
    title,
    with_interval,
)
from synthfm_env.printable import printable

METHODS = (
    "Figures are means over cases, structures averaged inside a case, with 95 % BCa bootstrap intervals over cases. "
    "Failed episodes score 0 from the failed click on and are never left out; episodes that end early keep their "
    "last score. Pairs are compared by two-sided Wilcoxon signed-rank tests on case means, Holm-adjusted over all "
    "pairs of a group; the minimal detectable difference is the one found with 80 % power. Rank: by {primary} among "
    "rows with the same clicker, with its 95 % bootstrap interval. NoC@T: median number of clicks to Dice T/100, with "
    "the share of episodes that reached it. An oracle clicker sees the truth and clicks on errors, a blind one does "
    "not."
)

_MARKUP = re.compile(r"[\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_])")  # an underscore within a word is none
_AT_START = re.compile(r"^ *(?:[#=]|[+-](?=[ \t+-])|\d+[.)](?=[ \t]))")  # headings and lists, no plain numbers


def markdown_board(rows: Iterable[LeaderboardRow], heading: str) -> str:
    """Return the board as Markdown for a paper's appendix: figures with intervals, pairs in sentences, methods."""
    parts = [f"# {heading}"]
    primaries: dict[str, None] = {}
    for name, group in by_group(rows).items():
        parts.append(f"## {escaped(title(name, group))}")
        # First table: Dice and rank.
        placed = ranks(group)
        dice = [
            [
                row.segmenter,
                clicker_label(row),
                *(with_interval(row, f) for f in board_columns(group)),
                show_rank(rank),
            ]
            for row, rank in zip(group, placed, strict=True)
        ]
        parts.append(table(["segmenter", "clicker", *(f.name for f in board_columns(group)), "rank"], dice))
        # Second table: all other figures, and what a click costs.
        others = group[0].columns[len(board_columns(group)) :]
        noc = [f"NoC@{100 * target:g} (reached)" for target in group[0].targets]
        headings = [
            "segmenter",
            "clicker",
            *(f.name for f in others),
            *noc,
            "price of a click",
            "s/click",
            "encode s",
            "failed",
        ]
        rest = [
            [
                row.segmenter,
                clicker_label(row),
                *(with_interval(row, column) for column in others),
                *(show_clicks(row, target) for target in row.targets),
                price(row),
                seconds(row.seconds_per_click),
                seconds(row.encode_seconds),
                failures(row),
            ]
            for row in group
        ]
        parts.append(table(headings, rest))
        # Pairs in sentences.
        parts.append(f"{group[0].primary.name}:\n\n" + "\n".join(f"- {escaped(line)}" for line in verdict(group)))
        primaries[group[0].primary.name] = None
    parts.append(METHODS.format(primary=" or ".join(primaries)))
    return "\n\n".join(parts) + "\n"


def escaped(text: str) -> str:
    r"""Return text that a Markdown viewer shows as it is: no HTML, link, picture, emphasis, cell or heading of its own.

    Example:
        >>> escaped("a|b <script> [x](http://y)")
        'a\\|b &lt;script&gt; \\[x\\](http&#58;//y)'
    """
    line = printable(text, 2_000)
    for char, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        line = line.replace(char, entity)
    line = _MARKUP.sub(r"\\\g<0>", line)
    line = line.replace("://", "&#58;//").replace("www.", "www&#46;")
    return _AT_START.sub(lambda found: found[0][:-1] + "\\" + found[0][-1], line)


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table whose first two columns are text and whose others are numbers; cells are escaped."""
    shown = [[escaped(cell) for cell in row] for row in rows]
    lines = [headings, ["---"] * 2 + ["---:"] * (len(headings) - 2), *shown]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
