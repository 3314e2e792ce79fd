"""Waits for effects in other processes."""

import time
from collections.abc import Callable
from pathlib import Path


def soon(condition: Callable[[], bool]) -> bool:
    """Wait until a condition holds, at most 20 s."""
    for _ in range(400):
        if condition():
            return True
        time.sleep(0.05)
    return False


def ended(pid: int) -> bool:
    """Tell whether a process has ended, from Linux's /proc; one that its parent has not reaped yet has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True
