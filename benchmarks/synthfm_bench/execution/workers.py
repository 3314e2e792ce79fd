"""Worker processes: how they start, which signals they ignore, and that they end with their parent."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from typing import Any

_TRIES = 5
_PAUSE_S = 0.5  # a server that was ended takes a moment to be noticed
_OF_A_WORKER = ["torch", "synthfm_bench.execution.episode_runner"]  # loaded once for all of them


def worker_context() -> Any:
    """Return the context of worker processes: never a fork of this one, since a process that ran torch may hang."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_OF_A_WORKER)
    return context


def start_worker(target: Callable[..., None], *arguments: Any) -> Any:
    """Start a worker process. Code in a worker can end the server that starts workers: then a new server is started.

    Raises:
        OSError: no process could be started.
    """
    for _ in range(_TRIES):
        process = worker_context().Process(target=target, args=arguments, daemon=True)
        try:
            process.start()
            return process
        except (OSError, EOFError) as error:
            failed = error
            time.sleep(_PAUSE_S)
    raise OSError(f"no worker process could be started ({failed})") from failed


def leave_signals_to_parent() -> None:
    """Ignore the signals that end a run: the parent ends its workers itself, after it has written what they played."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def end_with_parent() -> None:
    """End this worker when its parent is gone; a killed parent cannot tell it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
