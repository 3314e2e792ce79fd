"""Shows the progress of a training: a bar on a terminal, a line every twenty seconds elsewhere."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LINE_EVERY_S = 20.0
_SMOOTH = 0.95


class Display:
    """Shows the progress of one phase: loss, images/s, share of time waiting for data, validation scores, time left.

    Loss and speeds are moving averages over about twenty steps.
    """

    def __init__(self, title: str, total: int, done: int, *, silent: bool) -> None:
        self._title, self._total, self._silent = title, total, silent
        self._first, self._began, self._last_line = done, time.monotonic(), time.monotonic()
        self._mean: dict[str, float] = {}
        self._scores: dict[str, float] = {}
        self._console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.completed}/{task.total} {task.fields[note]}"),
            TimeElapsedColumn(),
            TextColumn("left:"),
            TimeRemainingColumn(),
            console=self._console,
            disable=silent or not self._console.is_terminal,
        )
        self._row: TaskID = self._bar.add_task(title, total=total, completed=done, note="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.stop()

    def step(self, done: int, loss: float, images: int, seconds: float, wait: float) -> None:
        """Show a step.

        Args:
            done: number of steps so far.
            loss: of the step.
            images: number of images in the step.
            seconds: that the step took.
            wait: the part of ``seconds`` that was spent waiting for data.
        """
        for name, value in {"loss": loss, "images": images, "seconds": seconds, "wait": wait}.items():
            self._mean[name] = _SMOOTH * self._mean.get(name, value) + (1 - _SMOOTH) * value
        self._bar.update(self._row, completed=done, note=self._note())
        now = time.monotonic()
        if not self._silent and not self._console.is_terminal and (now - self._last_line > LINE_EVERY_S):
            self._last_line = now
            left = (now - self._began) / max(1, done - self._first) * (self._total - done)
            self._line(f"{done}/{self._total} {self._note()}, left: {left / 60:.0f} min")

    def evaluated(self, scores: dict[str, float], best: bool) -> None:
        """Show validation scores, and whether they are the best so far."""
        self._scores = scores
        if not self._silent:
            values = ", ".join(f"{name} {value:.3f}" for name, value in scores.items())
            self._line(f"validation: {values}{', the best so far' if best else ''}")

    def _note(self) -> str:
        mean, seconds = self._mean, max(self._mean["seconds"], 1e-9)
        parts = [f"loss {mean['loss']:.3f}", f"{mean['images'] / seconds:.1f} images/s"]
        parts.append(f"data wait {100 * mean['wait'] / seconds:.0f}%")
        shown = {"val_dice1": "val Dice@1", "val_dice5": "@5"}
        parts += [f"{label} {self._scores[name]:.3f}" for name, label in shown.items() if name in self._scores]
        return ", ".join(parts)

    def _line(self, text: str) -> None:
        self._bar.console.print(f"{self._title} {text}", highlight=False, soft_wrap=True)
