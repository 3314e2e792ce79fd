"""The board as people read it: on the terminal, in Markdown and as CSV."""

import csv
import io
from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from synthfm_bench.board import Row, by_group, verdict

EXPLAINED = (
    "Dice after n clicks, mean over cases; nAUC is the area under that curve. An oracle clicker sees the "
    "truth and clicks on errors, a blind one does not."
)

_CSV_TAIL = ("seconds_per_click", "encode_seconds", "failures", "failure_kinds")


def print_board(rows: Iterable[Row], console: Console) -> None:
    """Print a table per data group, the best segmenter of each clicker in bold, and who is ahead."""
    for name, group in by_group(rows).items():
        table = Table(
            title=_title(name, group),
            title_justify="left",
            title_style="bold",
            box=SIMPLE_HEAD,
            pad_edge=False,
        )
        for index, heading in enumerate(_headings(group)):
            table.add_column(heading, justify="left" if index < 2 else "right", no_wrap=index >= 2)
        last = None
        for row in group:
            if last not in (None, row.clicker):
                table.add_section()
            best = last != row.clicker and len({other.model for other in group}) > 1
            table.add_row(*_cells(row), style="bold" if best else None)
            last = row.clicker
        console.print(table)
        console.print(verdict(group), highlight=False)
        console.print()
    console.print(EXPLAINED, style="dim", highlight=False)


def markdown_board(rows: Iterable[Row], heading: str) -> str:
    """Return the board as Markdown, ready to paste."""
    parts = [f"# {heading}", EXPLAINED]
    for name, group in by_group(rows).items():
        headings = _headings(group)
        lines = [headings, ["---"] * 2 + ["---:"] * (len(headings) - 2), *(_cells(row) for row in group)]
        parts += [
            f"## {_title(name, group)}",
            "\n".join(f"| {' | '.join(line)} |" for line in lines),
            verdict(group),
        ]
    return "\n\n".join(parts) + "\n"


def csv_board(rows: Sequence[Row]) -> str:
    """Return the board as CSV with full precision, one line a row; empty where there is no figure."""
    clicks = sorted({n for row in rows for n in row.dice_at})
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    dice = [f"dice@{n}" for n in clicks]
    out.writerow(["data", "segmenter", "clicker", "clicker_kind", "cases", "episodes", *dice, "nauc", *_CSV_TAIL])
    for row in rows:
        kind = "oracle" if row.oracle else "blind"
        scores = [*(row.dice_at.get(n) for n in clicks), row.nauc]
        failures = [sum(row.failures.values()), " ".join(f"{k}:{n}" for k, n in row.failures.items())]
        seconds = [row.seconds_per_click, row.encode_seconds]
        cells = [row.data_id, row.model, row.clicker, kind, len(row.case_curves), row.episodes]
        out.writerow([*cells, *scores, *seconds, *failures])
    return text.getvalue()


def _title(name: str, group: Sequence[Row]) -> str:
    cases, episodes = len(group[0].case_curves), group[0].episodes
    structures = f", {episodes} structures" if episodes != cases else ""
    (only,) = group[0].case_curves if cases == 1 else ("",)
    which = f": {only}" if only not in ("", name) else ""
    return f"{name}{which} ({cases} case{'s' * (cases > 1)}{structures})"


def _headings(group: Sequence[Row]) -> list[str]:
    dice = [f"Dice@{n}" for n in group[0].dice_at]
    return ["segmenter", "clicker", *dice, "nAUC", "s/click", "encode s", "failed"]


def _cells(row: Row) -> list[str]:
    figures = [f"{value:.3f}" for value in (*row.dice_at.values(), row.nauc)]
    seconds = ["-" if value is None else f"{value:.2f}" for value in (row.seconds_per_click, row.encode_seconds)]
    failed = ", ".join(f"{count} {kind}" for kind, count in row.failures.items()) or "0"
    return [row.model, f"{row.clicker} ({'oracle' if row.oracle else 'blind'})", *figures, *seconds, failed]
