"""Prints the board on a terminal."""

from collections.abc import Callable, Iterable, Sequence

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
        console.print(_board_table(name, group, of_clickers))
        for sentence in verdict(group, _MOST_SENTENCES):
            console.print(printable(sentence), highlight=False, markup=False)
        console.print()
    console.print(EXPLAINED, style="dim", highlight=False)


def _board_table(name: str, group: Sequence[LeaderboardRow], of_clickers: bool) -> Table:
    """Return the table of one data group, or a board of clickers; see ``print_board``."""
    columns = board_columns(group)

    # Headings, with optional columns.
    headings = ["segmenter", "clicker", *(column.name for column in columns), "s/click"]
    optional: dict[str, Callable[[LeaderboardRow], str]] = {}
    if of_clickers:
        optional["price of a click"] = price
    if any(row.failures for row in group):
        optional["failed"] = failures
    table = Table(
        title=Text(printable(title(name, group))),
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    for index, heading in enumerate([*headings, *optional]):
        table.add_column(heading, justify="left" if index < 2 else "right", no_wrap=index >= 2)

    # Rows, in sections by clicker, or by kind of clicker; the first of a section is the best.
    last = None
    for row in group:
        section = row.oracle if of_clickers else row.clicker
        if last not in (None, section):
            table.add_section()
        best = last != section and (of_clickers or len({other.segmenter for other in group}) > 1)
        cells = [row.segmenter, clicker_label(row)]
        cells += [column.show(mean_of(row.estimate(column))) for column in columns]
        cells += [seconds(row.seconds_per_click), *(cell(row) for cell in optional.values())]
        # A name is text, never console markup.
        table.add_row(*(Text(printable(cell)) for cell in cells), style="bold" if best else None)
        last = section
    return table
