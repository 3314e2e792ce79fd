"""Adds up the seconds that parts of a session take."""

import time
from types import TracebackType


class Stopwatch:
    """A context manager that adds the wall-clock time of its blocks. Blocks may not be nested.

    Attributes:
        seconds: in all blocks so far.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._started = 0.0

    def __enter__(self) -> "Stopwatch":
        self._started = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.seconds += time.perf_counter() - self._started
