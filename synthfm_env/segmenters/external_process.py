"""Starts and stops the processes of models outside this process."""

import contextlib
import os
import shlex
import signal
import subprocess
from collections.abc import Sequence
from typing import Any

from synthfm_env.errors import InputError
from synthfm_env.segmenters.orphan_guard import guard

# A child gets a process group of its own, so that the processes that it starts can be ended with it.
_OWN_GROUP: dict[str, Any] = {"start_new_session": True} if os.name == "posix" else {}


def split_command(command: str, what: str) -> list[str]:
    """Split a command line as a shell does, without running one.

    Args:
        command: for example ``"/envs/other/bin/python serve_model.py --size large"``.
        what: begins the message, for example ``"bridge:"``.

    Raises:
        InputError: it is empty, or its quotes do not match.
    """
    try:
        parts = shlex.split(command)
    except ValueError as error:
        raise InputError(f"{what}{command}: cannot be split into words: {error}") from None
    if not parts:
        raise InputError(f"{what}: the command is missing; give it after the colon, for example {what}python model.py")
    return parts


def start_process(command: Sequence[str], what: str, **options: Any) -> subprocess.Popen[bytes]:
    """Start a command. Its process is killed if this process is, and otherwise by ``kill_process``.

    Args:
        command: program and arguments.
        what: begins the message.
        options: of ``subprocess.Popen``.

    Raises:
        InputError: the program cannot be started.
    """
    try:
        process = subprocess.Popen(list(command), **_OWN_GROUP, **options)
    except (OSError, ValueError) as error:  # ValueError: a null character
        reason = getattr(error, "strerror", None) or error
        quotes = ", and put quotes around a path with spaces" if len(command) > 1 else ""
        raise InputError(
            f"{what}{shlex.join(command)}: cannot be started: {reason}: {command[0]!r}; "
            f"check the program's path{quotes}"
        ) from None
    guard.add("group", process.pid)
    return process


def kill_process(process: subprocess.Popen[bytes]) -> int:
    """Kill a process and the processes that it started, and return its exit code.

    Call it once, and soon after the process has ended: processes that it started may live on in its group, whose number
    can later mean another group.
    """
    if os.name == "posix":
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        guard.drop("group", process.pid)
    process.kill()
    return process.wait()
