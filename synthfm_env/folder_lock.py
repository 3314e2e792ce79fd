"""Lets one process at a time write to a folder."""

import contextlib
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from synthfm_env.errors import InputError
from synthfm_env.files import is_unfinished
from synthfm_env.printable import printable

LOCK_NAME = "writer.lock"

if sys.platform == "win32":
    import msvcrt

    def _lock(file: int) -> None:
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold a folder's lock file while the block runs. The system frees it when the process ends, however it ends.

    Args:
        folder: exists. ``writer.lock`` in it names the owner, and is removed at the end of the block.

    Raises:
        InputError: another process holds the lock, or the lock file cannot be made.

    Example:
        >>> import pathlib, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> with folder_lock(folder):
        ...     [path.name for path in folder.iterdir()]
        ['writer.lock']
        >>> list(folder.iterdir())
        []
    """
    path = folder / LOCK_NAME
    file = _acquire(path)
    try:
        os.truncate(file, 0)
        os.write(file, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()  # before the lock is freed, so that no other process holds a file without a name
        os.close(file)


def is_left_over(name: str) -> bool:
    """Tell whether a file is one that a killed process leaves in a folder: a lock, or an unfinished file.

    Example:
        >>> is_left_over("writer.lock"), is_left_over("run.json")
        (True, False)
    """
    return name == LOCK_NAME or is_unfinished(name)


def _acquire(path: Path) -> int:
    """Return an open, locked file; raise InputError if another process holds the lock."""
    while True:
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
        except OSError as error:
            raise InputError(f"{path}: cannot be made ({error.strerror}); the folder must be writable") from None
        try:
            _lock(file)
        except OSError:
            owner = printable(os.read(file, 200).decode(errors="replace")) or "another process"
            os.close(file)
            raise InputError(
                f"{path.parent}: {owner} is writing to it; wait until that process has ended, or stop it"
            ) from None
        # The owner before may have removed the file between our opening and locking it: the lock would protect nothing.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file), os.stat(path, follow_symlinks=False)):
                return file
        os.close(file)
