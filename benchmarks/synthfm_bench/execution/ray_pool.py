"""Plays jobs on the machines of a running Ray cluster; what a lost machine was playing is played again."""

import logging
import os
import time
from collections import Counter, deque
from collections.abc import Generator, Sequence
from typing import Any

from synthfm_bench.execution.local_pool import Advance, EpisodeSteps, Pool
from synthfm_bench.plan import Job
from synthfm_bench.suite import Suite
from synthfm_env.errors import InputError

MOST_LOSSES = 5
"""Machines that one job may lose before it counts as the cause."""


class RayPool:
    """Plays the jobs of a suite on a cluster, with the interface of ``Pool`` and the same records.

    Each worker is an actor on one core, which plays through a ``Pool`` of one process: a segmenter that hangs or dies
    is dealt with there, as on one machine. Data and weights must lie at the same paths on all machines, with the same
    versions of this package.

    Args:
        suite: what is played.
        run_id: stands in every record.
        workers: actors; None for as many as the cluster has cores.

    Raises:
        InputError: Ray is not installed, or no cluster is running.
    """

    def __init__(self, suite: Suite, run_id: str, workers: int | None = None) -> None:
        self._ray = connect()
        self.workers = workers or max(1, int(self._ray.cluster_resources().get("CPU", 1)))
        self.busy_s = 0.0
        self.elapsed_s = 0.0
        self._suite = suite
        self._run_id = run_id
        self._losses: Counter[str] = Counter()

    def play(self, jobs: Sequence[Job], advance: Advance = lambda record: None) -> Generator[EpisodeSteps]:
        """Yield each episode when its job ends.

        Args:
            jobs: what to play.
            advance: called with each record.

        Raises:
            InputError: data or a model cannot be read on a machine.
            RuntimeError: a job lost its machine too often, or a worker met a mistake of this program.
        """
        ray, waiting = self._ray, deque(jobs)
        actor_of: dict[Any, Any] = {}  # by the reference to the answer that it owes
        job_of: dict[Any, Job] = {}
        began = time.monotonic()
        # Ask for actors; each answers when it is ready, and later with the episodes of a job.
        for _ in range(min(self.workers, len(jobs))):
            self._start_actor(actor_of)
        try:
            while waiting or job_of:
                (done, *_), _ = ray.wait(list(actor_of), num_returns=1)
                actor, job = actor_of.pop(done), job_of.pop(done, None)
                # A lost actor is replaced, and its job waits again.
                try:
                    seconds, episodes = ray.get(done)
                except (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError) as error:
                    if job is not None:
                        self._count_loss(job, error)
                        waiting.appendleft(job)
                    self._start_actor(actor_of)
                    continue
                except ray.exceptions.RayTaskError as error:
                    raise _as_local(error) from None
                self.busy_s += seconds
                for episode in episodes:
                    for record in episode:
                        advance(record)
                    yield episode
                if waiting:
                    reference = actor.play.remote(waiting[0].specs)
                    actor_of[reference], job_of[reference] = actor, waiting.popleft()
            self.elapsed_s = time.monotonic() - began
        finally:
            for actor in set(actor_of.values()):
                ray.kill(actor)

    def close(self) -> None:
        """Leave the cluster, which goes on running."""
        self._ray.shutdown()

    def _start_actor(self, actor_of: dict[Any, Any]) -> None:
        """Ask for an actor, without waiting for it; it gets a job as soon as a core is free and it is ready."""
        actor = self._ray.remote(num_cpus=1, max_restarts=0)(_Host).remote(self._suite, self._run_id)
        actor_of[actor.ready.remote()] = actor

    def _count_loss(self, job: Job, error: Exception) -> None:
        first = job.specs[0].episode_id
        self._losses[first] += 1
        if self._losses[first] >= MOST_LOSSES:
            raise RuntimeError(f"{first}: lost its machine {MOST_LOSSES} times ({' '.join(str(error).split())[:300]})")


class _Host:
    """An actor's class: one worker process on some machine."""

    def __init__(self, suite: Suite, run_id: str) -> None:
        os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self._pool = Pool(suite, run_id, 1)

    def ready(self) -> tuple[float, list[EpisodeSteps]]:
        """Return no episodes; the answer shows that the actor runs."""
        return 0.0, []

    def play(self, specs: tuple[Any, ...]) -> tuple[float, list[EpisodeSteps]]:
        """Play the episodes of a job, and return the seconds that they took and their records."""
        began = time.monotonic()
        episodes = list(self._pool.play([Job(specs)]))
        return time.monotonic() - began, episodes


def connect() -> Any:
    """Join the cluster that ``$RAY_ADDRESS`` names, or that of this machine, and return the module ``ray``.

    Raises:
        InputError: Ray is not installed, or no cluster is running.
    """
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise InputError('--executor ray needs Ray, which is not installed: pip install "synthfm_env[ray]"') from error
    address = os.environ.get("RAY_ADDRESS", "auto")
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, ignore_reinit_error=True)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"--executor ray: no Ray cluster at {address!r} ({reason}); start one (`ray start --head`, and "
            "`ray start --address=HEAD:6379` on the other machines), or leave out --executor"
        ) from None
    return ray


def _as_local(error: Any) -> Exception:
    """Return what a worker raised, as it would have been raised on this machine."""
    cause = error.cause
    if isinstance(cause, InputError):
        return InputError(str(cause.args[0]) if cause.args else str(cause))
    return RuntimeError(f"a worker met a mistake: {' '.join(str(cause).split())}")
