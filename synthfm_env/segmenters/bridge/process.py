"""Runs the process of a bridged model: starts it on demand, sends it requests, ends it at a time-out."""

import contextlib
import queue
import shlex
import subprocess
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from typing import IO, Any

from synthfm_env.errors import InputError, SegmenterError, SegmenterTimeoutError
from synthfm_env.printable import printable, shown
from synthfm_env.segmenters.bridge.protocol import LONGEST_LINE, VERSION, decode, encode
from synthfm_env.segmenters.external_process import kill_process, start_process
from synthfm_env.segmenters.output_tail import OutputTail

_GRACE_S = 2.0  # for a process to end by itself after its input was closed
_MOST_LINES = 16  # of answers, read ahead; a process that writes more waits
_LOOK_S = 0.05  # between two looks whether a process that is silent still runs
_LONGEST_MESSAGE = 500  # characters of a model's error


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
        self._finalizer: weakref.finalize[..., BridgeProcess] | None = None
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
                self._finalizer = weakref.finalize(self, _end_gently, self._running)
                self.hello = self.call({"call": "hello", "version": VERSION})
                if self.hello.get("version") != VERSION:
                    version = shown(self.hello.get("version"))
                    self._stop()
                    raise SegmenterError(f"{self.label} speaks version {version} of the bridge: expected {VERSION}")
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
                    raise SegmenterError(
                        f"{self.label} answered the call {shown(answer.get('id'))}: expected {self._calls}"
                    )
                if "call" in answer:
                    raise SegmenterError(f"{self.label} repeated the call instead of an answer: it is no such model")
            except EOFError:
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
        if answer.get("error") is not None:
            text = printable(answer.get("message", "no message"), _LONGEST_MESSAGE)
            raise InputError(text) if answer["error"] == "input" else SegmenterError(f"{self.label}: {text}")
        return answer

    def end(self) -> None:
        """End the process, whose state can no longer be trusted; ``ensure_running`` starts another one."""
        with self._lock:
            if self._running is not None:
                self._stop()

    def _stop(self) -> int:
        assert self._running is not None, "there is a process to stop"
        assert self._finalizer is not None, "made with the process"
        running, self._running = self._running, None
        self._finalizer.detach()
        return running.end()


_PIPES = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}


class _Running:
    """A process with a thread for each pipe, so that reads and writes can have a time limit.

    Each thread closes its own pipe. Another thread must not: closing waits for a read or write that goes on, and a
    helper process of the model that outlives it can hold the other end for ever.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin, "a pipe"
        assert process.stdout, "a pipe"
        assert process.stderr, "a pipe"
        self.process = process
        self._ended = threading.Event()
        self._calls: queue.SimpleQueue[bytes] = queue.SimpleQueue()  # b"" closes the pipe
        self._lines: queue.Queue[bytes] = queue.Queue(_MOST_LINES)  # b"" is the end of the file
        self._errors = OutputTail(process.stderr)
        self._writer = threading.Thread(target=self._write_calls, args=(process.stdin,), daemon=True)
        self._reader = threading.Thread(target=self._read_lines, args=(process.stdout,), daemon=True)
        self._writer.start()
        self._reader.start()

    def ask(self, line: bytes, limit_s: float) -> bytes:
        """Send a line and return the next one that comes.

        Raises:
            EOFError: the process ended.
            queue.Empty: the process did not read the line, or did not answer it, in time.
        """
        self._calls.put(line)
        answer = self._next_line(time.monotonic() + limit_s)
        if not answer:
            raise EOFError
        return answer

    def close_input(self) -> None:
        """Close the standard input of the process, which tells it to end."""
        self._calls.put(b"")

    def end(self) -> int:
        """Kill the process and what it started, and return its exit code. May be called twice."""
        if self._ended.is_set():
            return self.process.wait()
        self._ended.set()
        code = kill_process(self.process)
        self.close_input()
        # Let the threads end. One whose pipe is held by a process that left the group stays until that process ends.
        deadline = time.monotonic() + _GRACE_S
        self._drop_lines()
        self._reader.join(max(0.0, deadline - time.monotonic()))
        self._writer.join(max(0.0, deadline - time.monotonic()))
        self._errors.join(deadline - time.monotonic())
        return code

    def stderr_tail(self) -> str:
        """Return the last lines of the process's standard error, for a message; empty if there are none."""
        text = self._errors.text()
        return f"; its standard error ends: {text}" if text else ""

    def _next_line(self, deadline: float) -> bytes:
        """Return the next line; b"" if the process has ended, even if a child of it holds the pipe open."""
        while True:
            left = deadline - time.monotonic()
            with contextlib.suppress(queue.Empty):
                return self._lines.get(timeout=min(_LOOK_S, max(0.0, left)))
            if self.process.poll() is not None:
                try:
                    return self._lines.get(timeout=_GRACE_S)  # what it wrote before it ended
                except queue.Empty:
                    return b""
            if left <= 0:
                raise queue.Empty

    def _write_calls(self, pipe: IO[bytes]) -> None:
        try:
            with pipe:
                while call := self._calls.get():
                    pipe.write(call)
                    pipe.flush()
        except OSError:  # the process no longer reads, so no answer will come
            self._lines.put(b"")

    def _read_lines(self, pipe: IO[bytes]) -> None:
        """Queue each line, cut after ``LONGEST_LINE`` bytes, and b"" at the end of the file."""
        with pipe:
            while (line := pipe.readline(LONGEST_LINE + 1)) and not self._ended.is_set():
                self._lines.put(line)
        self._lines.put(b"")

    def _drop_lines(self) -> None:
        """Make room in the queue, so that the thread that fills it goes on and ends."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._lines.get_nowait()


def _end_gently(running: _Running) -> None:
    """Close the input of a process, so that it ends by itself, and kill it if it does not, with what it started."""
    running.close_input()
    deadline = time.monotonic() + _GRACE_S
    while running.process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    running.end()
