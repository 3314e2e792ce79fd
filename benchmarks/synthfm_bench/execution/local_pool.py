"""Plays jobs in worker processes of one torch thread; one that hangs or dies costs its episode, not the run."""

import contextlib
import os
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

from synthfm_bench.execution.episode_runner import Player, failure
from synthfm_bench.execution.foreign_calls import Fields, Watch, Who, limit_memory
from synthfm_bench.execution.probe import BUILDING_S
from synthfm_bench.execution.workers import start_worker, worker_context
from synthfm_bench.plan import EpisodeSpec, Job
from synthfm_bench.results.step_record import StepRecord
from synthfm_bench.suite import Suite
from synthfm_env.errors import InputError
from synthfm_env.worker_process import follow_parent

MOST_WORKERS = 8
"""Most workers of a run by default; each holds a model of its own."""

_LONGEST_WAIT_S = 1.0
_TIME_TO_END_S = 5.0

EpisodeSteps = tuple[StepRecord, ...]
Advance = Callable[[StepRecord], None]


def default_workers() -> int:
    """Return the number of cores that this process may use, at most ``MOST_WORKERS``."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MOST_WORKERS)


@dataclass(slots=True)
class Pool:
    """Plays the jobs of a suite. Records, timings aside, do not depend on the number of workers.

    Attributes:
        suite: what is played.
        run_id: stands in every record.
        workers: processes.
        busy_s: sum of the seconds that each worker worked.
        elapsed_s: seconds of the newest ``play``, from the first job to the last.
    """

    suite: Suite
    run_id: str
    workers: int
    busy_s: float = 0.0
    elapsed_s: float = 0.0
    _running: list["_Worker"] = field(default_factory=list)
    _deaths: Counter[str] = field(default_factory=Counter)

    def play(self, jobs: Sequence[Job], advance: Advance = lambda record: None) -> Generator[EpisodeSteps]:
        """Yield each episode when it ends. Workers stay for the next call, until ``close``.

        Args:
            jobs: what to play.
            advance: called with each record, as soon as there is one.

        Raises:
            InputError: data or a model cannot be read any more.
            RuntimeError: a worker could not be started, or met a mistake of this program.
        """
        waiting = deque(jobs)
        began: float | None = None
        try:
            while waiting or any(worker.specs for worker in self._running):
                self._hand_out(waiting)
                began = began or time.monotonic()
                for worker in self._workers_with_messages():
                    yield from self._read_message(worker, advance)
                for worker in list(self._running):
                    limit = worker.limit(self.suite.time_limit_s)
                    if worker.late(limit):
                        yield from self._fail_episode(worker, "timeout", f"no answer within {limit:g} s")
            self.elapsed_s = time.monotonic() - (began or time.monotonic())
        except BaseException:
            self._end()
            raise

    def close(self) -> None:
        """End the workers, once each has freed what it holds."""
        for worker in self._running:
            worker.ask_to_end()
        self._end()

    def _hand_out(self, waiting: deque[Job]) -> None:
        """Give jobs to free workers, and start others up to the number of workers."""
        free = [worker for worker in self._running if not worker.specs]
        while waiting and (free or len(self._running) < self.workers):
            worker = free.pop() if free else self._start_worker()
            worker.take(waiting.popleft().specs)

    def _start_worker(self) -> "_Worker":
        """Start a worker and add it to those that run."""
        worker = _Worker.start(self.suite, self.run_id)
        self._running.append(worker)
        return worker

    def _workers_with_messages(self) -> list["_Worker"]:
        """Return the workers that sent a message; wait until one does, or until a time limit is due."""
        busy = {worker.connection: worker for worker in self._running if worker.specs}
        limits = [worker.seconds_left(worker.limit(self.suite.time_limit_s)) for worker in busy.values()]
        ready = wait(list(busy), timeout=max(0.0, min([_LONGEST_WAIT_S, *limits])))
        return [busy[connection] for connection in ready if isinstance(connection, Connection)]

    def _read_message(self, worker: "_Worker", advance: Advance) -> Generator[EpisodeSteps]:
        """Read one message of a worker, and yield the episode that it ends, if it ends one."""
        try:
            kind, content = worker.connection.recv()
        except Exception:  # it has died, or code in it wrote into the pipe
            yield from self._play_again(worker)
            return
        match kind:
            case "attempt":
                worker.attempt, worker.since = content, time.monotonic()
            case "answered":
                worker.since = None
            case "record":
                worker.since = None
                worker.records.append(content)
                advance(content)
            case "ended":
                episode = worker.end_episode()
                yield episode
                if not worker.specs:
                    self.busy_s += worker.seconds_worked()
                elif episode[-1].outcome == "out_of_memory":
                    worker.kill()  # it may still hold what it allocated
                    self._replace(worker)
            case "refused":
                raise InputError(content)
            case "broken":
                raise RuntimeError(f"a worker process failed:\n{content}")

    def _play_again(self, worker: "_Worker") -> Generator[EpisodeSteps]:
        """Play the episode of a dead worker again in a new one; an episode that ends two workers fails."""
        spec, code = worker.specs[0], worker.kill()
        if worker.attempt is None and not worker.records:
            raise RuntimeError(f"a worker process died as it started (exit code {code}), possibly out of memory")
        self._deaths[spec.episode_id] += 1
        if self._deaths[spec.episode_id] < 2:
            self._replace(worker)
        elif worker.killed_by_system():
            yield from self._fail_episode(
                worker, "out_of_memory", f"the system ended its process twice (exit code {code})"
            )
        else:
            kind = "clicker_error" if worker.attempt and worker.attempt.who == "clicker" else "model_error"
            yield from self._fail_episode(worker, kind, f"its process died twice (exit code {code})")

    def _fail_episode(self, worker: "_Worker", kind: str, error: str) -> Generator[EpisodeSteps]:
        """End a worker, record its episode as a failure, and give the rest of its job to another worker."""
        worker.kill()
        if worker.attempt is not None and worker.attempt.fields:
            worker.records.append(failure(worker.attempt.fields, worker.attempt.step, kind, error))
            yield worker.end_episode()
        # Else it hung between two episodes, as it freed something: nothing is lost.
        self._replace(worker)

    def _replace(self, worker: "_Worker") -> None:
        """Forget a worker that has ended, and give what it had still to play to a new one."""
        self._running.remove(worker)
        self.busy_s += worker.seconds_worked()
        if worker.specs:
            self._start_worker().take(tuple(worker.specs))

    def _end(self) -> None:
        """End all workers at once."""
        for worker in self._running:
            worker.kill()
        self._running.clear()


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A call of foreign code that was begun; see ``Watch.attempt``."""

    fields: Fields
    step: int
    who: Who
    building: bool


@dataclass(slots=True)
class _Worker:
    """A worker process as its parent sees it.

    Attributes:
        process: the process.
        connection: the parent's end of the pipe to it.
        specs: what it has still to play; the first one is being played.
        attempt: the newest ``Watch.attempt``.
        since: monotonic time at which that began; None where it has been answered.
        records: those of the episode being played.
        began: monotonic time at which it took its job.
        kills_before: processes that the system had ended for lack of memory when this one started.
    """

    process: Any
    connection: Connection
    specs: deque[EpisodeSpec] = field(default_factory=deque)
    attempt: _Attempt | None = None
    since: float | None = None
    records: list[StepRecord] = field(default_factory=list)
    began: float = 0.0
    kills_before: int = 0

    @classmethod
    def start(cls, suite: Suite, run_id: str) -> "_Worker":
        """Start a worker process with a pipe to it."""
        here, there = worker_context().Pipe()
        process = start_worker(_work, there, suite, run_id)
        there.close()
        return cls(process, here, kills_before=_kills_by_system())

    def take(self, specs: Sequence[EpisodeSpec]) -> None:
        """Send episodes to play."""
        self.specs.extend(specs)
        self.began = time.monotonic()
        self.connection.send(tuple(specs))

    def limit(self, limit_s: float) -> float:
        """Return the time limit of its present call, in seconds; building may take longer than ``limit_s``."""
        return max(limit_s, BUILDING_S) if self.attempt is not None and self.attempt.building else limit_s

    def killed_by_system(self) -> bool:
        """Tell whether the system has ended processes since this one began, because memory ran out."""
        return _kills_by_system() > self.kills_before

    def late(self, limit_s: float) -> bool:
        """Tell whether a call of foreign code exceeds its time limit."""
        late = self.since is not None and time.monotonic() - self.since > limit_s
        return late and not self.connection.poll()  # an answer that waits to be read is no delay of the worker's

    def seconds_left(self, limit_s: float) -> float:
        """Return the seconds until the time limit of the present call; ``_LONGEST_WAIT_S`` between two calls."""
        return _LONGEST_WAIT_S if self.since is None else limit_s - (time.monotonic() - self.since)

    def end_episode(self) -> EpisodeSteps:
        """Return the records of the episode that ended, and go on to the next."""
        self.specs.popleft()
        records, self.records, self.attempt, self.since = tuple(self.records), [], None, None
        return records

    def seconds_worked(self) -> float:
        """Return the seconds since it took its job."""
        return time.monotonic() - self.began

    def kill(self) -> int | None:
        """End it at once, and return its exit code."""
        self.process.kill()
        self.process.join()
        self.connection.close()
        code: int | None = self.process.exitcode
        return code

    def ask_to_end(self) -> None:
        """Ask it to free what it holds and to end, and wait; the caller kills one that does not end."""
        with contextlib.suppress(OSError, ValueError):  # it has gone already
            self.connection.send(None)
        self.process.join(_TIME_TO_END_S)


class _SendingWatch(Watch):
    """Sends the begin and the end of each call of foreign code to the parent."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def attempt(self, fields: Fields, step: int, who: Who, building: bool = False) -> None:
        """Tell the parent that a call of foreign code begins."""
        self._connection.send(("attempt", _Attempt(fields, step, who, building)))

    def answered(self) -> None:
        """Tell the parent that the call has ended."""
        self._connection.send(("answered", None))


def _work(connection: Connection, suite: Suite, run_id: str) -> None:
    """Play what the parent sends, until it sends None."""
    follow_parent()
    os.dup2(2, 1)  # what foreign code prints must not mix with the board
    import torch

    torch.set_num_threads(1)  # workers share the cores, and sums depend on how they are split
    limit_memory(suite.memory_limit_mib)
    player, watch = Player(suite, run_id), _SendingWatch(connection)
    try:
        while (specs := connection.recv()) is not None:
            for spec in specs:
                for record in player.play(spec, watch):
                    connection.send(("record", record))
                connection.send(("ended", None))
    except InputError as error:
        _send(connection, ("refused", str(error)))
    except (BrokenPipeError, ConnectionError, EOFError):
        return  # the parent has gone
    except Exception:
        _send(connection, ("broken", traceback.format_exc()))
    player.close()


def _send(connection: Connection, message: tuple[str, str]) -> None:
    """Send a last message to the parent, if it still runs."""
    with contextlib.suppress(OSError):
        connection.send(message)


def _kills_by_system() -> int:
    """Return how many processes Linux has ended since it started because memory ran out; 0 elsewhere."""
    with contextlib.suppress(OSError, ValueError, IndexError), open("/proc/vmstat", encoding="ascii") as file:
        return next((int(line.split()[1]) for line in file if line.startswith("oom_kill ")), 0)
    return 0
