"""Progress of a run: a bar on a terminal, otherwise a line at intervals."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from synthfm_bench.results.step_record import StepRecord

_LINE_EVERY_S = 20.0

Advance = Callable[[StepRecord], None]


@contextmanager
def progress(episodes: int, clicks: int, console: Console) -> Iterator[Advance]:
    """Show how many of ``episodes``, with a budget of ``clicks`` each, have been played.

    Yields:
        A function to call with each record, in the order in which they are made.
    """
    show = _bar if console.is_terminal else _lines
    with show(episodes, clicks, console) as advance:
        yield advance


@contextmanager
def _bar(episodes: int, clicks: int, console: Console) -> Iterator[Advance]:
    """Show a bar, on a terminal."""
    columns = (
        SpinnerColumn(),
        BarColumn(),
        TextColumn("{task.fields[played]} of {task.fields[episodes]} episodes"),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.description}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        row = bar.add_task("starting", total=episodes * clicks, played=0, episodes=episodes)
        played = 0

        def advance(record: StepRecord) -> None:
            nonlocal played
            ended = record.terminated or record.truncated
            played += ended
            # An episode that ends early has spent its budget as far as the bar goes.
            spent = 1 + (record.max_clicks - record.step if ended else 0)
            bar.update(row, advance=spent, description=record.episode_id, played=played)

        yield advance


@contextmanager
def _lines(episodes: int, clicks: int, console: Console) -> Iterator[Advance]:
    """Print a line now and then, if there is no terminal."""
    began = told = time.monotonic()
    played = 0

    def advance(record: StepRecord) -> None:
        nonlocal played, told
        played += record.terminated or record.truncated
        now = time.monotonic()
        if now - told >= _LINE_EVERY_S:
            told = now
            console.print(f"{played} of {episodes} episodes after {now - began:.0f} s", highlight=False)

    yield advance
