"""Runs torch on one thread, so that results do not depend on how many there are."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock

import torch


@dataclass
class _Bookkeeping:
    """Torch's thread count before the first block was entered, and how many blocks are open."""

    before: int = 1
    entered: int = 0
    lock: Lock = field(default_factory=Lock)


_bookkeeping = _Bookkeeping()


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Run a block on one torch thread: sums depend on how they are split, and small work is slower if it is split.

    Python threads may enter at the same time. Torch keeps a thread count for each Python thread; a new one inherits
    the count that was set last by any thread, at the moment when it first asks or computes. So each block asks before
    it sets its own count, and restores what the first block found.
    """
    with _bookkeeping.lock:
        count = torch.get_num_threads()  # asked in every block, see above
        if not _bookkeeping.entered:
            _bookkeeping.before = count
        _bookkeeping.entered += 1
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _bookkeeping.lock:
            _bookkeeping.entered -= 1
            torch.set_num_threads(_bookkeeping.before)
