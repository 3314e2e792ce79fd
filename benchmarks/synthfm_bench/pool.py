"""Tasks over processes, one torch thread each; records come back one by one, as they are made."""

import multiprocessing
import os
import queue
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.queues import Queue

from synthfm_bench.play import Player
from synthfm_bench.records import StepRecord
from synthfm_bench.suite import Suite
from synthfm_bench.tasks import Task

MOST_WORKERS = 8
"""How many workers a run has by default at most; each holds a model of its own."""

_POLL_S = 0.1
_player: Player | None = None  # of a worker process
_channel: "Queue[StepRecord] | None" = None


def default_workers() -> int:
    """Return the number of cores that this process may use, at most ``MOST_WORKERS``."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MOST_WORKERS)


def play_all(suite: Suite, run_id: str, tasks: Sequence[Task], workers: int) -> Generator[StepRecord]:
    """Play all tasks and yield their records, those of an episode in order. One worker is this process.

    The records, timings aside, do not depend on ``workers``.

    Raises:
        RuntimeError: a worker died, for example for want of memory.
    """
    if workers > 1 and len(tasks) > 1:
        yield from _in_many(suite, run_id, tasks, min(workers, len(tasks)))
        return
    _use_one_thread()
    player = Player(suite, run_id)
    try:
        for task in tasks:
            yield from player.play(task)
    finally:
        player.close()


def _in_many(suite: Suite, run_id: str, tasks: Sequence[Task], workers: int) -> Iterator[StepRecord]:
    context = multiprocessing.get_context("spawn")  # a fork of a process that has run torch may hang
    channel: Queue[StepRecord] = context.Queue()
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(suite, run_id, channel))
    finished: deque[Future[int]] = deque()
    try:
        with _interrupts_ignored():
            for task in tasks:
                pool.submit(_play_task, task).add_done_callback(finished.append)
        running, on_the_way = len(tasks), 0
        while running or on_the_way > 0:
            while finished:
                on_the_way += finished.popleft().result()
                running -= 1
            try:
                yield channel.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            on_the_way -= 1
    except BaseException as error:
        for child in set(multiprocessing.active_children()) - others:
            child.terminate()
        if isinstance(error, BrokenProcessPool):
            raise RuntimeError("a worker process died, perhaps for want of memory; try --workers 1") from error
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        channel.close()


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Let processes that are started meanwhile ignore Ctrl-C, which ends them through their parent."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _start_worker(suite: Suite, run_id: str, channel: "Queue[StepRecord]") -> None:
    global _player, _channel
    _use_one_thread()
    threading.Thread(target=end_with_parent, daemon=True).start()
    _player, _channel = Player(suite, run_id), channel


def _play_task(task: Task) -> int:
    """Play a task in a worker process and return how many records it sent."""
    assert _player is not None, "the worker was started"
    assert _channel is not None, "the worker was started"
    count = 0
    for record in _player.play(task):
        _channel.put(record)
        count += 1
    return count


def end_with_parent() -> None:
    """End this worker when its parent is gone; a killed parent cannot tell it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _use_one_thread() -> None:
    """Let torch compute on one thread: workers share the cores, and sums depend on how they are split."""
    import torch  # here, so that the parent of many workers need not load it

    torch.set_num_threads(1)
