"""Makes a worker process follow its parent: it ignores the signals that end a run, and ends when its parent is gone."""

import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import wait


def follow_parent() -> None:
    """Ignore SIGINT, SIGTERM and SIGHUP in this worker process, and end it when its parent has ended.

    The parent ends its workers itself, after it has written what they computed. A killed parent cannot: a thread of
    the worker waits for the parent's end. Call it first in a worker's main function.
    """
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
