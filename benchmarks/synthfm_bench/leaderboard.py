"""The board as people read it: on the terminal, in Markdown for a paper's appendix, and as CSV."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from synthfm_bench.board import Row, by_group, ranks
from synthfm_bench.comparisons import csv_pairs, verdict
from synthfm_bench.figures import NAUC, Figure, dice_figures
from synthfm_bench.folder import write_text
from synthfm_bench.statistics import Estimate

EXPLAINED = (
    "Dice after n clicks, mean over cases; nAUC is the area under that curve. An oracle clicker sees the "
    "truth and clicks on errors, a blind one does not."
)
METHODS = (
    "Figures are means over cases, structures averaged inside a case, with 95 % BCa bootstrap intervals over cases. "
    "Failed episodes score 0 from the failed click on and are never left out; episodes that end early keep their "
    "last score. Pairs are compared by two-sided Wilcoxon signed-rank tests on case means, Holm-adjusted over all "
    "pairs of a group; what could have been shown is the difference found with 80 % power. Rank: by {primary} among "
    "rows with the same clicker, with its 95 % bootstrap interval. NoC@T: median number of clicks to Dice T/100, with "
    "the share of episodes that reached it. An oracle clicker sees the truth and clicks on errors, a blind one does "
    "not."
)

_MOST_SENTENCES = 6


def write_tables(folder: Path, heading: str, rows: Sequence[Row]) -> None:
    """Write ``leaderboard.md``, ``leaderboard.csv`` and ``pairs.csv`` into a folder."""
    write_text(folder / "leaderboard.csv", csv_board(rows))
    write_text(folder / "leaderboard.md", markdown_board(rows, heading))
    write_text(folder / "pairs.csv", csv_pairs(rows))


def print_board(rows: Iterable[Row], console: Console) -> None:
    """Print a table per data group, the best segmenter of each clicker in bold, and who is ahead."""
    for name, group in by_group(rows).items():
        failed = any(row.failures for row in group)
        table = Table(
            title=title(name, group), title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False
        )
        headings = ["segmenter", "clicker", *(f.name for f in _board_figures(group)), "s/click"] + ["failed"] * failed
        for index, heading in enumerate(headings):
            table.add_column(heading, justify="left" if index < 2 else "right", no_wrap=index >= 2)
        last = None
        for row in group:
            if last not in (None, row.clicker):
                table.add_section()
            best = last != row.clicker and len({other.segmenter for other in group}) > 1
            means = [figure.show(_mean(row.estimate(figure))) for figure in _board_figures(group)]
            cells = [row.segmenter, clicker_label(row), *means, seconds(row.seconds_per_click)]
            table.add_row(*cells, *[failures(row)] * failed, style="bold" if best else None)
            last = row.clicker
        console.print(table)
        for said in verdict(group, _MOST_SENTENCES):
            console.print(said, highlight=False)
        console.print()
    console.print(EXPLAINED, style="dim", highlight=False)


def markdown_board(rows: Iterable[Row], heading: str) -> str:
    """Return the board as Markdown for a paper's appendix: figures with intervals, pairs in sentences, methods."""
    parts = [f"# {heading}"]
    primaries: dict[str, None] = {}
    for name, group in by_group(rows).items():
        parts.append(f"## {title(name, group)}")
        placed = ranks(group)
        dice = [
            [
                row.segmenter,
                clicker_label(row),
                *(with_interval(row, f) for f in _board_figures(group)),
                show_rank(rank),
            ]
            for row, rank in zip(group, placed, strict=True)
        ]
        parts.append(_table(["segmenter", "clicker", *(f.name for f in _board_figures(group)), "rank"], dice))
        others = group[0].figures[len(_board_figures(group)) :]
        noc = [f"NoC@{100 * target:g} (reached)" for target in group[0].targets]
        headings = ["segmenter", "clicker", *(f.name for f in others), *noc, "s/click", "encode s", "failed"]
        rest = [
            [
                row.segmenter,
                clicker_label(row),
                *(with_interval(row, figure) for figure in others),
                *(show_clicks(row, target) for target in row.targets),
                seconds(row.seconds_per_click),
                seconds(row.encode_seconds),
                failures(row),
            ]
            for row in group
        ]
        parts.append(_table(headings, rest))
        parts.append(f"{group[0].primary.name}:\n\n" + "\n".join(f"- {said}" for said in verdict(group)))
        primaries[group[0].primary.name] = None
    parts.append(METHODS.format(primary=" or ".join(primaries)))
    return "\n\n".join(parts) + "\n"


def csv_board(rows: Sequence[Row]) -> str:
    """Return the board as CSV with full precision, one line a row; empty where there is no figure."""
    figures = {figure.key: figure for row in rows for figure in row.figures}
    names = sorted(figures, key=lambda key: (not key.startswith("dice@"), int(key[5:]) if key[:5] == "dice@" else 0))
    columns = [column for name in names for column in (name, f"{name}_low", f"{name}_high")]
    targets = rows[0].targets if rows else ()
    clicks = [f"noc{100 * target:g}_{part}" for target in targets for part in ("median", "reached")]
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(
        [
            *("data", "segmenter", "clicker", "clicker_kind", "protocol_hash", "cases", "episodes"),
            *columns,
            *("rank", "rank_low", "rank_high"),
            *clicks,
            *("seconds_per_click", "encode_seconds", "peak_memory_mib", "failures", "failure_kinds"),
        ]
    )
    for group in by_group(rows).values():
        for row, rank in zip(group, ranks(group), strict=True):
            own = {figure.key: row.estimate(figure) for figure in row.figures}
            cells: list[object] = [row.data_id, row.segmenter, row.clicker, "oracle" if row.oracle else "blind"]
            cells += [row.episodes[0].protocol_hash, len(row.cases), len(row.episodes)]
            for name in names:
                found = own.get(name)
                cells += [found.mean, found.low, found.high] if found else [None] * 3
            cells += rank or [None] * 3
            for target in targets:
                reached, median = row.clicks_to(target)
                cells += [median, reached]
            kinds = " ".join(f"{kind}:{count}" for kind, count in row.failures.items())
            cells += [row.seconds_per_click, row.encode_seconds, row.peak_memory_mib, sum(row.failures.values()), kinds]
            out.writerow(cells)
    return text.getvalue()


def title(name: str, group: Sequence[Row]) -> str:
    """Return the heading of a group: its name, and how many cases and structures."""
    cases, episodes = len(group[0].cases), len(group[0].episodes)
    structures = f", {episodes} structures" if episodes != cases else ""
    (only,) = group[0].cases if cases == 1 else ("",)
    which = f": {only}" if only not in ("", name) else ""
    return f"{name}{which} ({cases} case{'s' * (cases > 1)}{structures})"


def clicker_label(row: Row) -> str:
    """Return a row's clicker, and whether it sees the truth."""
    return f"{row.clicker} ({'oracle' if row.oracle else 'blind'})"


def with_interval(row: Row, figure: Figure) -> str:
    """Return a mean over cases and its interval, as "0.712 [0.650, 0.770]"."""
    found = row.estimate(figure)
    if found is None or found.low is None:
        return figure.show(_mean(found))
    return f"{figure.show(found.mean)} [{figure.show(found.low)}, {figure.show(found.high)}]"


def show_rank(rank: tuple[int, int, int] | None) -> str:
    """Return a rank and its interval, as "1 [1, 2]"."""
    return "-" if rank is None else f"{rank[0]} [{rank[1]}, {rank[2]}]"


def show_clicks(row: Row, target: float) -> str:
    """Return the median number of clicks to a target and the share that reached it, as "4 (92 %)"."""
    reached, median = row.clicks_to(target)
    return f"{f'> {row.budget}' if median is None else median} ({100 * reached:.0f} %)"


def seconds(value: float | None) -> str:
    """Return seconds as the board shows them."""
    return "-" if value is None else f"{value:.2f}"


def failures(row: Row) -> str:
    """Return how many episodes failed, by kind."""
    return ", ".join(f"{count} {kind}" for kind, count in row.failures.items()) or "0"


def _board_figures(group: Sequence[Row]) -> list[Figure]:
    return [*dice_figures(group[0].budget), NAUC]


def _mean(found: Estimate | None) -> float | None:
    return None if found is None else found.mean


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headings, ["---"] * 2 + ["---:"] * (len(headings) - 2), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
