"""Writes the board as CSV."""

from collections.abc import Sequence

from synthfm_bench.analysis.aggregate import LeaderboardRow, by_group, ranks
from synthfm_bench.results.csv_text import csv_text


def csv_board(rows: Sequence[LeaderboardRow]) -> str:
    """Return the board as CSV with full precision, one line for each row; a cell without a figure is empty."""
    # Headings: the columns of all rows, because budgets of clicks differ between groups.
    columns = {column.key: column for row in rows for column in row.columns}
    names = sorted(columns, key=lambda key: (not key.startswith("dice@"), int(key[5:]) if key[:5] == "dice@" else 0))
    headings = [heading for name in names for heading in (name, f"{name}_low", f"{name}_high")]
    targets = rows[0].targets if rows else ()
    clicks = [f"noc{100 * target:g}_{part}" for target in targets for part in ("median", "reached")]
    lines: list[list[object]] = [
        [
            *("data", "segmenter", "clicker", "clicker_kind", "protocol_hash", "cases", "episodes"),
            *headings,
            *("rank", "rank_low", "rank_high"),
            *clicks,
            *(
                "seconds_per_click",
                "encode_seconds",
                "clicker_seconds",
                "clicker_answers",
                "peak_memory_mib",
                "failures",
                "failure_kinds",
            ),
        ]
    ]
    # Lines, a row each.
    for group in by_group(rows).values():
        for row, rank in zip(group, ranks(group), strict=True):
            own = {column.key: row.estimate(column) for column in row.columns}
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
            cells += [row.seconds_per_click, row.encode_seconds, row.clicker_seconds, row.clicker_answers]
            cells += [row.peak_memory_mib, sum(row.failures.values()), kinds]
            lines.append(cells)
    return csv_text(lines)
