"""Prints the board on a terminal."""

from collections.abc import Iterable

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from synthfm_bench.analysis.aggregate import LeaderboardRow, by_group
from synthfm_bench.analysis.comparisons import verdict
from synthfm_bench.report.cells import board_columns, clicker_label, failures, mean_of, price, seconds, title
from synthfm_env.printable import printable

EXPLAINED = (
    "Dice after n clicks, mean over cases; nAUC is the area under that curve. An oracle clicker sees the "
    "truth and clicks on errors, a blind one does not."
)
_MOST_SENTENCES = 6


def print_board(rows: Iterable[LeaderboardRow], console: Console) -> None:
    """Print a table per data group, the best segmenter of each clicker in bold, and who is ahead.

    A group of one segmenter and several clickers is a board of clickers: blind ones apart from oracles, the best first,
    with a column for the price of a click.
    """
    for name, group in by_group(rows).items():
        of_clickers = len({row.clicker for row in group}) > 1 and len({row.segmenter for row in group}) == 1
        if of_clickers:
            group = sorted(group, key=lambda row: (row.oracle, -(mean_of(row.estimate(row.primary)) or 0.0)))
        # The table's headings
        failed = any(row.failures for row in group)
        table = Table(
            title=Text(printable(title(name, group))),
            title_justify="left",
            title_style="bold",
            box=SIMPLE_HEAD,
            pad_edge=False,
        )
        headings = ["segmenter", "clicker", *(f.name for f in board_columns(group)), "s/click"]
        headings += ["price of a click"] * of_clickers + ["failed"] * failed
        for index, heading in enumerate(headings):
            table.add_column(heading, justify="left" if index < 2 else "right", no_wrap=index >= 2)
        # Its rows, in sections by clicker, or by kind of clicker
        last = None
        for row in group:
            part = row.oracle if of_clickers else row.clicker
            if last not in (None, part):
                table.add_section()
            best = last != part and (of_clickers or len({other.segmenter for other in group}) > 1)
            means = [column.show(mean_of(row.estimate(column))) for column in board_columns(group)]
            cells = [row.segmenter, clicker_label(row), *means, seconds(row.seconds_per_click)]
            cells += [price(row)] * of_clickers + [failures(row)] * failed
            # A name is text, never console markup.
            table.add_row(*(Text(printable(cell)) for cell in cells), style="bold" if best else None)
            last = part
        console.print(table)
        for sentence in verdict(group, _MOST_SENTENCES):
            console.print(printable(sentence), highlight=False, markup=False)
        console.print()
    console.print(EXPLAINED, style="dim", highlight=False)
