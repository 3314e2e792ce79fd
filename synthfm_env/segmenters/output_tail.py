"""Reads what a process prints, and keeps the end of it."""

import os
import threading
from typing import IO

from synthfm_env.printable import printable

_KEPT = 2000  # bytes
_SHOWN = 300  # characters
_BLOCK = 1 << 16  # bytes


class OutputTail:
    """Reads a pipe in a thread until it ends, so that the process never waits, and closes the pipe.

    Args:
        pipe: of the process. A child that outlives the process may hold it open for ever, so nobody waits for its end
            without a time limit.
    """

    def __init__(self, pipe: IO[bytes]) -> None:
        """Start to read."""
        self._end = b""
        self._thread = threading.Thread(target=self._read, args=(pipe,), daemon=True)
        self._thread.start()

    def join(self, limit_s: float) -> None:
        """Wait for the end of the pipe, at most ``limit_s`` seconds."""
        self._thread.join(max(0.0, limit_s))

    def text(self) -> str:
        """Return the last characters as one printable line; empty if nothing was printed."""
        line = " ".join(self._end.decode("utf-8", "replace").split())
        return printable(line[-_SHOWN:], _SHOWN)

    def _read(self, pipe: IO[bytes]) -> None:
        with pipe:
            while block := os.read(pipe.fileno(), _BLOCK):
                self._end = (self._end + block)[-_KEPT:]
