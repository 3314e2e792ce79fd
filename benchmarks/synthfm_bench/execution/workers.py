"""Starts worker processes."""

import multiprocessing
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing import forkserver
from typing import Any

_TRIES = 5
_PAUSE_S = 0.5  # a server that was ended takes a moment to be noticed
_PRELOADED = ["torch", "synthfm_bench.execution.episode_runner"]  # imported once for all workers


def worker_context() -> Any:
    """Return the context of worker processes: never a fork of this one, since a process that ran torch may hang."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    return context


def start_worker(target: Callable[..., None], *arguments: Any) -> Any:
    """Start a worker process. Code in a worker can end the server that starts workers: then a new server is started.

    Raises:
        OSError: no process could be started.
    """
    for _ in range(_TRIES):
        context = worker_context()
        if context.get_start_method() == "forkserver":
            _start_server()
        process = context.Process(target=target, args=arguments, daemon=True)
        try:
            process.start()
            return process
        except (OSError, EOFError) as error:
            failed = error
            time.sleep(_PAUSE_S)
    raise OSError(f"no worker process could be started ({failed})") from failed


def _start_server() -> None:
    """Start the server of workers, if there is none, so that it and all workers ignore Ctrl-C from their first line on.

    A terminal sends Ctrl-C to them too, and a process that still imports would print a traceback. They inherit the
    signal's disposition, which only the main thread can change.
    """
    if threading.current_thread() is not threading.main_thread():
        forkserver.ensure_running()
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, before)
