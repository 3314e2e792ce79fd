"""Cells of the board as text, the same on a terminal, in Markdown and in HTML."""

from collections.abc import Sequence

from synthfm_bench.analysis.aggregate import LeaderboardRow
from synthfm_bench.analysis.columns import NAUC, Column, dice_columns
from synthfm_bench.analysis.statistics import Estimate
from synthfm_env.plural import plural


def title(name: str, group: Sequence[LeaderboardRow]) -> str:
    """Return the heading of a group: its name, and how many cases and structures."""
    cases, episodes = len(group[0].cases), len(group[0].episodes)
    structures = f", {episodes} structures" if episodes != cases else ""
    (only,) = group[0].cases if cases == 1 else ("",)
    which = f": {only}" if only not in ("", name) else ""
    return f"{name}{which} ({plural(cases, 'case')}{structures})"


def clicker_label(row: LeaderboardRow) -> str:
    """Return a row's clicker, and whether it sees the truth."""
    return f"{row.clicker} ({'oracle' if row.oracle else 'blind'})"


def with_interval(row: LeaderboardRow, column: Column) -> str:
    """Return a mean over cases and its interval, as "0.712 [0.650, 0.770]"."""
    found = row.estimate(column)
    if found is None or found.low is None:
        return column.show(mean_of(found))
    return f"{column.show(found.mean)} [{column.show(found.low)}, {column.show(found.high)}]"


def show_rank(rank: tuple[int, int, int] | None) -> str:
    """Return a rank and its interval, as "1 [1, 2]"."""
    return "-" if rank is None else f"{rank[0]} [{rank[1]}, {rank[2]}]"


def show_clicks(row: LeaderboardRow, target: float) -> str:
    """Return the median number of clicks to a target and the share that reached it, as "4 (92 %)"."""
    reached, median = row.clicks_to(target)
    return f"{f'> {row.budget}' if median is None else median} ({100 * reached:.0f} %)"


def seconds(value: float | None) -> str:
    """Return seconds as the board shows them."""
    return "-" if value is None else f"{value:.2f}"


def price(row: LeaderboardRow) -> str:
    """Return a clicker's price for a click, as "0.21 s, 9 answers"; the answers are those that it asks for itself."""
    took, asked = row.clicker_seconds, row.clicker_answers
    if took is None:
        return "-"
    return f"{took:.3f} s" + (f", {asked:.1f} answers" if asked else "")


def failures(row: LeaderboardRow) -> str:
    """Return how many episodes failed, by kind."""
    return ", ".join(f"{count} {kind}" for kind, count in row.failures.items()) or "0"


def board_columns(group: Sequence[LeaderboardRow]) -> list[Column]:
    """Return the figures of the short board: Dice after n clicks and nAUC."""
    return [*dice_columns(group[0].budget), NAUC]


def mean_of(found: Estimate | None) -> float | None:
    """Return the mean of an estimate, None for None."""
    return None if found is None else found.mean
