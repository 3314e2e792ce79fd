"""Removes what this process leaves behind if it is killed: processes of models, their folders, their containers.

A killed process cannot clean up after itself. The guard is a small process in a session of its own, which holds the
read end of a pipe: when the pipe closes, the process that it guards has ended, and the guard removes what is still on
its list. This file is also the guard's program, so it imports the standard library alone.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

_ENDING_S = 5.0
_COMMAND_S = 60.0  # for ending a container


class OrphanGuard:
    """Starts the guard at the first entry, and sends it changes of its list.

    It does nothing on Windows, which has no process groups.
    """

    def __init__(self) -> None:
        """Start nothing yet."""
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0  # id of the process that the guard watches: a fork needs a guard of its own

    def add(self, kind: str, value: Any) -> None:
        """Put an entry on the list.

        Args:
            kind: ``"group"``, ``"folder"`` or ``"command"``.
            value: number of a process group to kill, path of a folder to delete, or words of a command to run.
        """
        self._send("+", kind, value)

    def drop(self, kind: str, value: Any) -> None:
        """Take an entry from the list: it has been removed, or a number may soon mean another process."""
        self._send("-", kind, value)

    @contextmanager
    def holding(self, kind: str, value: Any) -> Iterator[None]:
        """Keep an entry on the list during a block."""
        self.add(kind, value)
        try:
            yield
        finally:
            self.drop(kind, value)

    def _send(self, sign: str, kind: str, value: Any) -> None:
        if os.name != "posix":
            return
        line = json.dumps([sign, kind, value]).encode() + b"\n"
        # Without a guard a killed process leaves orphans, which is no reason to fail now.
        with self._lock, contextlib.suppress(OSError):
            if self._process is None or self._owner != os.getpid():
                self._process, self._owner = _start(), os.getpid()
                weakref.finalize(self, _end, self._process)
            assert self._process.stdin is not None, "stdin is a pipe"
            self._process.stdin.write(line)


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        cwd="/",
        start_new_session=True,
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the guard at the end of this process, after the finalizers of what it guards: they are younger."""
    assert process.stdin is not None, "stdin is a pipe"
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        process.stdin.close()
        process.wait(_ENDING_S)


def watch(lines: Iterable[bytes]) -> None:
    """Keep the list until the lines end, then remove what is on it.

    Args:
        lines: each a JSON list ``[sign, kind, value]``, as ``OrphanGuard`` writes it.
    """
    held: dict[str, None] = {}
    for line in lines:
        sign, kind, value = json.loads(line)
        entry = json.dumps([kind, value])
        if sign == "+":
            held[entry] = None
        else:
            held.pop(entry, None)
    for entry in held:
        kind, value = json.loads(entry)
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            _remove(kind, value)


def _remove(kind: str, value: Any) -> None:
    if kind == "group":
        os.killpg(value, signal.SIGKILL)
    elif kind == "folder":
        shutil.rmtree(value, ignore_errors=True)
    else:
        silent = subprocess.DEVNULL
        subprocess.run(value, stdin=silent, stdout=silent, stderr=silent, timeout=_COMMAND_S, check=False)


guard = OrphanGuard()

if __name__ == "__main__":
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    watch(sys.stdin.buffer)
