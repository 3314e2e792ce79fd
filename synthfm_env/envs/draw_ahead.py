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
    """Volumes by seed, of which those that were announced are drawn by other processes meanwhile.

    What it returns does not depend on the workers: a volume that was not announced, or whose worker failed, is drawn
    here.

    Args:
        generator: of the volumes.
        workers: number of processes, 0 or more.
    """

    def __init__(self, generator: SynthFM3D, workers: int) -> None:
        self._generator = generator
        self._workers: list[VolumeWorker] = []
        self._local = threading.local()
        self._coming: dict[int, Future[Volume]] = {}
        # A thread for each process: it starts the process with its first volume and waits for its answers.
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="draw-ahead") if workers else None

    def announce(self, seed: int) -> None:
        """Begin to draw a volume."""
        if self._threads is not None and seed not in self._coming:
            self._coming[seed] = self._threads.submit(self._draw, seed)

    def forget(self, seed: int) -> None:
        """Drop a volume that was announced and will not be taken."""
        coming = self._coming.pop(seed, None)
        if coming is not None:
            coming.cancel()

    def take(self, seed: int) -> Volume:
        """Return a volume; waits for it if it is being drawn."""
        coming = self._coming.pop(seed, None)
        if coming is None or coming.cancel():
            return self._generator.sample(seed)
        try:
            return coming.result()
        except (OSError, EOFError, ValueError):
            _log.debug("a worker failed on seed %d", seed, exc_info=True)
            return self._generator.sample(seed)

    def close(self) -> None:
        """End all processes. May be called twice; announcing after it draws nothing ahead."""
        threads, self._threads = self._threads, None
        if threads is not None:
            for coming in self._coming.values():
                coming.cancel()
            self._coming.clear()
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
    """Return how many CPUs this process may use beside the one it runs on."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cpus - 1
