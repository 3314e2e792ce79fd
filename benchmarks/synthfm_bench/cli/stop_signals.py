"""Ends a command at the first Ctrl-C, SIGTERM or SIGHUP; a second one does not disturb the end."""

import os
import signal
from types import FrameType

from synthfm_env.errors import HungUp, Terminated

_STOPS: dict[str, type[KeyboardInterrupt]] = {"SIGINT": KeyboardInterrupt, "SIGTERM": Terminated, "SIGHUP": HungUp}
_DEFAULTS = (signal.SIG_DFL, signal.default_int_handler)


class StopSignals:
    """Counts the signals that ask a command to end.

    The first raises ``KeyboardInterrupt`` or a subclass of it. The second is ignored, because the state of a run is
    being written. A third ends the process at once, which costs no more than a kill does: no traceback, one line.

    Example:
        >>> stops = StopSignals()
        >>> stops.install()  # doctest: +SKIP
    """

    def __init__(self) -> None:
        self._received = 0
        self._ours: list[int] = []

    def install(self) -> None:
        """Take the three signals over. One that is ignored, as under ``nohup``, stays so."""
        for name in _STOPS:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) in _DEFAULTS:
                signal.signal(number, self._receive)
                self._ours.append(number)

    def ignore(self) -> None:
        """Ignore them from now on: the command has ended, and Python puts its modules away."""
        for number in self._ours:
            signal.signal(number, signal.SIG_IGN)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._received += 1
        if self._received == 1:
            raise _STOPS[signal.Signals(number).name]
        if self._received > 2:
            os.write(2, b"synthfm: stopped at once\n")
            os._exit(128 + number)
