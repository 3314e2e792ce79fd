"""Builds a segmenter or clicker of the user's own in a process of its own, to describe it.

Importing its module and building it run code that may raise, hang, exit or allocate without bound, so the command's
own process does neither.
"""

import contextlib
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from synthfm_bench.execution.foreign_calls import ForeignCallError, Watch, Who, foreign_call, limit_memory
from synthfm_bench.execution.workers import start_worker, worker_context
from synthfm_bench.players import build_clicker, build_segmenter, describe_clicker, describe_segmenter
from synthfm_bench.suite import Choice
from synthfm_env.errors import InputError
from synthfm_env.worker_process import follow_parent

BUILDING_S = 30.0
"""Least time limit for building a segmenter or clicker: its module may import much."""

_STARTING_S = 120.0
_ENDING_S = 1.0


@dataclass(frozen=True, slots=True)
class Broken:
    """A segmenter or clicker that could not be built: all its episodes fail.

    Attributes:
        outcome: one of ``FAILURES``.
        error: one line.
    """

    outcome: str
    error: str


def probe(who: Who, choice: Choice, time_limit_s: float, memory_limit_mib: int | None) -> dict[str, Any] | Broken:
    """Describe a segmenter or clicker of the user's own, as ``players`` does.

    One that fails gets a second try, as an episode whose worker died does. One that hangs gets none: it would take the
    time limit again.

    Args:
        who: which of the two it is.
        choice: the suite's.
        time_limit_s: of the suite; building may take ``BUILDING_S`` at least.
        memory_limit_mib: of the suite.

    Raises:
        InputError: it cannot be imported, is no such class, or takes other parameters.
        RuntimeError: no process could be started.
    """
    answer = _probe_once(who, choice, time_limit_s, memory_limit_mib)
    if isinstance(answer, Broken) and answer.outcome != "timeout":
        answer = _probe_once(who, choice, time_limit_s, memory_limit_mib)
    return answer


def _probe_once(who: Who, choice: Choice, time_limit_s: float, memory_limit_mib: int | None) -> dict[str, Any] | Broken:
    """Describe it in a new process; see ``probe``."""
    limit = max(time_limit_s, BUILDING_S)
    here, there = worker_context().Pipe()
    process = start_worker(_describe, there, who, choice, memory_limit_mib)
    there.close()
    # Wait until it has started, then until it has been built.
    try:
        if _receive(here, _STARTING_S) != ("ready", None):
            raise RuntimeError(f"a process for {who} {choice.label} could not be started")
        answer = _receive(here, limit)
        if answer is None:
            process.join(_ENDING_S)  # a pipe that is closed precedes the end of its process
            if process.is_alive():
                return Broken("timeout", f"was not built within {limit:g} s")
    finally:
        process.kill()
        process.join()
        here.close()
    # Turn the answer into a description or a failure.
    if answer is None:
        kind = "clicker_error" if who == "clicker" else "model_error"
        return Broken(kind, f"its process died as it was built (exit code {process.exitcode})")
    kind, content = answer
    if kind == "refused":
        raise InputError(content)
    return Broken(*content) if kind == "failed" else content


def _receive(connection: Connection, limit_s: float) -> Any:
    """Return the next message; None if the process ended or ``limit_s`` passed."""
    with contextlib.suppress(EOFError, OSError):
        if connection.poll(limit_s):
            return connection.recv()
    return None


def _describe(connection: Connection, who: Who, choice: Choice, memory_limit_mib: int | None) -> None:
    """Build a segmenter or clicker in this process, and send its description or its failure to the parent."""
    follow_parent()
    limit_memory(memory_limit_mib)
    connection.send(("ready", None))
    message: tuple[str, Any]
    try:
        with foreign_call(Watch(), who, {}, 0, building=True, refuses=True):
            if who == "segmenter":
                message = ("described", describe_segmenter(choice, build_segmenter(choice)))
            else:
                from synthfm_env.segmenters.geodesic import Geodesic  # stands for the one that it would ask

                message = ("described", describe_clicker(choice, build_clicker(choice, Geodesic())))
    except InputError as error:
        message = ("refused", str(error))
    except ForeignCallError as failed:
        message = ("failed", (failed.outcome, failed.error))
    connection.send(message)
