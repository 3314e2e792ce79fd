"""Runs the process of a bridged model: starts it on demand, sends it requests, ends it at a time-out."""

import contextlib
import queue
import shlex
import subprocess
import threading
import time
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from typing import IO, Any

from synthfm_env.errors import InputError, SegmenterError, SegmenterTimeoutError
from synthfm_env.segmenters.bridge.protocol import LONGEST_LINE, VERSION, decode, encode
from synthfm_env.segmenters.external_process import kill_process, start_process

_GRACE_S = 2.0  # for a process to end by itself after its input was closed
_MOST_LINES = 16  # of answers, read ahead; a process that writes more waits
_LAST_LINES = 3  # of standard error, shown in a message


class BridgeProcess:
    """One process that serves many sessions. It is kept for a whole run, and started again if it died.

    A call that is not answered in time, an answer that is no line of JSON and a closed pipe end the process. The call
    raises; the next call starts another process.

    Attributes:
        generation: number of processes started so far; a session of an earlier process must be opened again.
        hello: the process's answer to the call ``hello``.
    """

    def __init__(self, command: Sequence[str], time_limit_s: float) -> None:
        """Start nothing yet.

        Args:
            command: program and arguments.
            time_limit_s: longest time for any answer, loading included.
        """
        self._command = list(command)
        self._limit_s = time_limit_s
        self._lock = threading.RLock()
        self._running: _Running | None = None
        self._calls = 0
        self.generation = 0
        self.hello: dict[str, Any] = {}

    @property
    def label(self) -> str:
        """The command, as messages name it."""
        return f"bridge:{shlex.join(self._command)}"

    @property
    def process_id(self) -> int | None:
        """The id of the running process, or None."""
        return None if self._running is None else self._running.process.pid

    def ensure_running(self) -> int:
        """Start the process unless it runs, and return its generation.

        Raises:
            InputError: the command cannot be started.
            SegmenterError: its answer does not follow the protocol.
        """
        with self._lock:
            if self._running is not None and self._running.process.poll() is not None:
                self._stop()
            if self._running is None:
                self._running = _Running(start_process(self._command, "bridge:", **_PIPES))
                self.generation += 1
                weakref.finalize(self, _end_gently, self._running)
                self.hello = self.call({"call": "hello", "version": VERSION})
                if self.hello.get("version") != VERSION:
                    version = self.hello.get("version")
                    self._stop()
                    raise SegmenterError(f"{self.label} speaks version {version!r} of the bridge: expected {VERSION}")
            return self.generation

    def call(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Send a call and return its answer.

        Raises:
            InputError: the model refused the prompt.
            SegmenterError: the model failed, the process died, or its answer cannot be read.
            SegmenterTimeoutError: no answer came in time.
        """
        with self._lock:
            # Ask, and end a process whose answer cannot be trusted.
            running = self._running
            if running is None:
                raise SegmenterError(f"{self.label}: its process has ended; open another session")
            try:
                self._calls += 1
                answer = decode(running.ask(encode({"id": self._calls, **message}), self._limit_s), self.label)
                if answer.get("id") != self._calls:
                    raise SegmenterError(f"{self.label} answered the call {answer.get('id')!r}: expected {self._calls}")
            except (OSError, EOFError):
                raise SegmenterError(f"{self.label} died (exit code {self._stop()}){running.stderr_tail()}") from None
            except queue.Empty:
                self._stop()
                raise SegmenterTimeoutError(
                    f"{self.label} gave no answer to {message['call']!r} within {self._limit_s:g} s; it was ended"
                ) from None
            except SegmenterError:
                self._stop()
                raise
        # Turn the model's own error into one of this package.
        if "error" in answer:
            text = " ".join(str(answer.get("message", "no message")).split())
            raise InputError(text) if answer["error"] == "input" else SegmenterError(f"{self.label}: {text}")
        return answer

    def _stop(self) -> int:
        assert self._running is not None, "there is a process to stop"
        running, self._running = self._running, None
        return running.end()


_PIPES = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}


class _Running:
    """A process with a thread for each pipe that it writes to, so that reads can have a time limit."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._lines: queue.Queue[bytes] = queue.Queue(_MOST_LINES)
        self._errors: deque[bytes] = deque(maxlen=_LAST_LINES)
        self._threads = [
            threading.Thread(target=_read_lines, args=(process.stdout, self._lines.put, True), daemon=True),
            threading.Thread(target=_read_lines, args=(process.stderr, self._errors.append, False), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def ask(self, line: bytes, limit_s: float) -> bytes:
        """Send a line and return the next one that comes.

        Raises:
            OSError: the process no longer reads.
            EOFError: the process ended.
            queue.Empty: no line came in time.
        """
        assert self.process.stdin is not None, "stdin is a pipe"
        self.process.stdin.write(line)
        self.process.stdin.flush()
        answer = self._lines.get(timeout=limit_s)
        if not answer:
            raise EOFError
        return answer

    def end(self) -> int:
        """Kill the process, and return its exit code."""
        code = kill_process(self.process)
        for thread in self._threads:
            thread.join(_GRACE_S)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe is not None, "all three are pipes"
            with contextlib.suppress(OSError):  # a full pipe that nobody reads any more
                pipe.close()
        return code

    def stderr_tail(self) -> str:
        """Return the last lines of the process's standard error, for a message; empty if there are none."""
        text = " ".join(b" ".join(self._errors).decode("utf-8", "replace").split())
        return f"; its standard error ends: {text[-300:]}" if text else ""


def _read_lines(pipe: IO[bytes], put: Any, ends: bool) -> None:
    """Call ``put`` with each line, cut after ``LONGEST_LINE`` bytes; at the end of the file with b"" if ``ends``."""
    with contextlib.suppress(ValueError, OSError):  # the pipe was closed under this thread
        while line := pipe.readline(LONGEST_LINE + 1):
            put(line)
    if ends:
        put(b"")


def _end_gently(running: _Running) -> None:
    """Close the input of a process, so that it ends by itself, and kill it if it does not."""
    with contextlib.suppress(OSError):
        if running.process.stdin is not None:
            running.process.stdin.close()
    deadline = time.monotonic() + _GRACE_S
    while running.process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    running.end()
