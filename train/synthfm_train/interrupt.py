"""Ctrl-C between two steps, never within one."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from synthfm_env.errors import HungUp, Terminated

_ENDS: dict[str, type[KeyboardInterrupt]] = {
    "SIGINT": KeyboardInterrupt,
    "SIGTERM": Terminated,
    "SIGHUP": HungUp,
}


@contextmanager
def gentle_interrupt() -> Iterator[Callable[[], bool]]:
    """Note the first Ctrl-C, SIGTERM or SIGHUP instead of raising; a second one raises at once.

    A KeyboardInterrupt that leaves the block becomes the one of the signal that was noted. SIGTERM and SIGHUP that
    are ignored stay so. Outside the main thread, where Python takes no signal handlers, nothing changes.

    Yields:
        Returns True once a signal was noted.
    """
    noted: list[type[KeyboardInterrupt]] = []

    def note(number: int, frame: FrameType | None) -> None:
        kind = _ENDS[signal.Signals(number).name]
        if noted:
            raise kind
        noted.append(kind)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    numbers = [getattr(signal, name) for name in _ENDS if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        if number == signal.SIGINT or before[number] is not signal.SIG_IGN:  # nohup ignores SIGHUP
            signal.signal(number, note)
    try:
        yield lambda: bool(noted)
    except KeyboardInterrupt:
        raise (noted[0] if noted else KeyboardInterrupt) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
