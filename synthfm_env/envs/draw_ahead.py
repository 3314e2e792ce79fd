"""Draws the volumes of coming episodes in worker processes, so that a reset need not wait for them."""

import logging
import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor

from synthfm_env.synthesis import SynthFM3D
from synthfm_env.synthesis.worker import VolumeWorker
from synthfm_env.volumes import Volume

_log = logging.getLogger(__name__)


class DrawAhead:
    """Draws announced volumes in other processes, until they are taken.

    The volumes do not depend on the workers: ``take`` draws a volume itself if it was not announced, if no worker has
    begun it, or if its worker failed.

    Args:
        generator: draws the volume of a seed.
        workers: number of processes, 0 or more.
    """

    def __init__(self, generator: SynthFM3D, workers: int) -> None:
        self._generator = generator
        self._workers: list[VolumeWorker] = []
        self._local = threading.local()
        self._announced: dict[int, Future[Volume]] = {}
        # One thread for each process: it starts the process with its first volume and waits for its answers.
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="draw-ahead") if workers else None

    def announce(self, seed: int) -> None:
        """Begin to draw the volume of a seed."""
        if self._threads is not None and seed not in self._announced:
            self._announced[seed] = self._threads.submit(self._draw, seed)

    def forget(self, seed: int) -> None:
        """Drop an announced volume that will not be taken."""
        drawing = self._announced.pop(seed, None)
        if drawing is not None:
            drawing.cancel()

    def take(self, seed: int) -> Volume:
        """Return the volume of a seed; waits for it if a worker is drawing it."""
        drawing = self._announced.pop(seed, None)
        if drawing is None or drawing.cancel():
            return self._generator.sample(seed)
        try:
            return drawing.result()
        except (OSError, EOFError, ValueError):
            _log.debug("a worker failed on seed %d", seed, exc_info=True)
            return self._generator.sample(seed)

    def close(self) -> None:
        """End all processes. May be called twice; announcing after it draws nothing ahead."""
        threads, self._threads = self._threads, None
        if threads is not None:
            for drawing in self._announced.values():
                drawing.cancel()
            self._announced.clear()
            threads.shutdown(wait=True)
            for worker in self._workers:
                worker.close()

    def _draw(self, seed: int) -> Volume:
        if not hasattr(self._local, "worker"):
            self._local.worker = VolumeWorker(self._generator)
            self._workers.append(self._local.worker)
        volume: Volume = self._local.worker.sample(seed)
        return volume


def spare_cpus() -> int:
    """Return the number of CPUs that this process may use in addition to the one it runs on."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cpus - 1
