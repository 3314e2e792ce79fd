"""Handles Ctrl-C between two training steps, never within one."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def gentle_interrupt() -> Iterator[Callable[[], bool]]:
    """Note the first Ctrl-C instead of raising it; a second one raises KeyboardInterrupt as usual.

    Outside the main thread, where Python takes no signal handlers, nothing changes.

    Yields:
        A function that returns True once Ctrl-C was pressed.
    """
    pressed = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)
