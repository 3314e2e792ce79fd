"""Opens files that a foreign process wrote."""

import os
import stat
from io import BufferedReader
from pathlib import Path

from synthfm_env.errors import SegmenterError


class ForeignFileError(SegmenterError):
    """A file that a model shares with this process is gone, or has a form that was not agreed."""


def open_regular_file(path: Path, most: int, what: str) -> BufferedReader:
    """Open a file for reading, without waiting for a writer.

    A pipe or a device in the place of a file could block the reader or never end, so both are refused.

    Args:
        path: of the file.
        most: bytes; a larger file is refused before any is read.
        what: begins the message.

    Raises:
        ForeignFileError: it is no regular file, or larger than ``most``.
        OSError: it cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_size <= most:
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise ForeignFileError(f"{what} is no regular file")
    raise ForeignFileError(f"{what} has {status.st_size} bytes: expected at most {most}")
