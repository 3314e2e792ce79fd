"""Calls into code of segmenters and clickers: whatever it raises becomes an outcome of one episode."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

from synthfm_env.errors import InputError, SegmenterTimeoutError
from synthfm_env.memory_limit import MemoryLimitError, free_memory
from synthfm_env.plugins import PluginError
from synthfm_env.printable import error_line

Who = Literal["segmenter", "clicker"]
Fields = dict[str, Any]
_Answer = TypeVar("_Answer")

_DEFAULT_SHARE = 0.9  # of the free memory, for one worker
_OUT_OF_MEMORY = ("MemoryError", "_ArrayMemoryError", "OutOfMemoryError")
_NO_MEMORY_LEFT = ("can't allocate memory", "not enough memory", "bad_alloc", "out of memory")  # in torch's messages


class ForeignCallError(Exception):
    """Code of a segmenter or clicker failed.

    Attributes:
        outcome: of the episode, one of ``FAILURES``.
        error: one line.
    """

    def __init__(self, outcome: str, error: str) -> None:
        super().__init__(f"{outcome}: {error}")
        self.outcome, self.error = outcome, error


class Watch:
    """Callbacks around code of segmenters and clickers, by which the pool limits their time. This one does nothing."""

    def attempt(self, fields: Fields, step: int, who: Who, building: bool = False) -> None:
        """Begin a call. If it never returns, ``failure(fields, step, ...)`` is the record.

        Args:
            fields: of the record; empty if the call belongs to no episode.
            step: the click.
            who: whose code is called.
            building: whether an object is built, which may import much.
        """

    def answered(self) -> None:
        """End the call: what follows is this project's own arithmetic."""


@contextmanager
def foreign_call(
    watch: Watch, who: Who, fields: Fields, step: int, building: bool = False, refuses: bool = False
) -> Iterator[None]:
    """Run a block that calls code of a segmenter or clicker.

    Args:
        watch: is told before and after.
        who: whose code is called.
        fields: of the record, if the call never returns.
        step: the click.
        building: whether an object is built.
        refuses: whether an InputError goes through: it is the user's mistake, not a failure of the code.

    Raises:
        ForeignCallError: the code raised anything at all, ``SystemExit`` and ``KeyboardInterrupt`` included: workers
            ignore Ctrl-C, so these come from the code itself.
    """
    watch.attempt(fields, step, who, building)
    try:
        yield
    except ForeignCallError:
        raise
    except BaseException as error:
        if refuses and isinstance(error, InputError) and not isinstance(error, PluginError | MemoryLimitError):
            raise
        if isinstance(error, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            raise  # the user's own Ctrl-C
        text = str(error) if isinstance(error, PluginError) else error_line(error)
        raise ForeignCallError(outcome_of(error, who), text) from None
    finally:
        watch.answered()


def call_and_ignore_failure(call: Callable[[], _Answer], watch: Watch, who: Who) -> _Answer | None:
    """Call code that frees something. None if it raises, which costs nothing: the episode is over."""
    try:
        with foreign_call(watch, who, {}, 0):
            return call()
    except ForeignCallError:
        return None


def outcome_of(error: BaseException, who: Who) -> str:
    """Return the outcome of an episode in which code of a segmenter or clicker raised."""
    if isinstance(error, MemoryLimitError) or lacks_memory(error_line(error)):
        return "out_of_memory"
    if who == "clicker":
        refused = isinstance(error, InputError) and not isinstance(error, PluginError)
        return "no_valid_click" if refused else "clicker_error"
    return "timeout" if isinstance(error, SegmenterTimeoutError) else "model_error"


def outcome_of_message(text: str) -> str:
    """Return the outcome of a click at which a segmenter raised, from its ``error_line``.

    ``SegmenterTimeoutError``: a model outside this process hung. ``InputError``: the segmenter refused the click.
    """
    if lacks_memory(text):
        return "out_of_memory"
    kinds = {SegmenterTimeoutError.__name__: "timeout", InputError.__name__: "invalid_prompt"}
    return kinds.get(text.partition(":")[0], "model_error")


def lacks_memory(text: str) -> bool:
    """Tell whether an ``error_line`` means that memory could not be allocated."""
    kind, _, message = text.partition(": ")
    return kind in _OUT_OF_MEMORY or any(part in message.lower() for part in _NO_MEMORY_LEFT)


def limit_memory(mib: int | None) -> None:
    """Limit what this process may allocate from now on, so that code without bounds costs its episode only.

    Linux only. Without a limit of the user's, most of the free memory; on a machine with CUDA none, because its driver
    reserves more address space than it uses.

    Args:
        mib: MiB beyond what the process holds now, or None for the default.
    """
    if sys.platform != "linux":
        return
    import resource

    if mib is None:
        import torch

        free = free_memory()
        if free is None or torch.cuda.is_available():
            return
        more = int(_DEFAULT_SHARE * free)
    else:
        more = mib * 2**20
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    with open("/proc/self/statm", encoding="ascii") as file:
        held = int(file.read().split()[5]) * resource.getpagesize()
    limit = held + more
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
