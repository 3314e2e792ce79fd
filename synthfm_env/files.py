"""Writes files so that a reader finds them whole or not at all."""

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; rename it to ``path`` when the block ends without an error.

    The content is flushed to the disk before the rename, so that a power cut leaves the old file or the new one. If the
    block raises, the temporary file is deleted and ``path`` stays as it was.

    Args:
        path: the file to write. The temporary one keeps its last suffix, because some writers choose the format by it.

    Raises:
        OSError: the file cannot be written.

    Example:
        >>> from tempfile import mkdtemp
        >>> target = Path(mkdtemp()) / "notes.txt"
        >>> with atomic_write(target) as unfinished:
        ...     _ = unfinished.write_text("whole")
        >>> target.read_text()
        'whole'
    """
    unfinished = path.with_name(f".{path.stem}.{uuid.uuid4().hex}.part{path.suffix}")
    try:
        yield unfinished
        with open(unfinished, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8."""
    with atomic_write(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file atomically; NaN and infinity are refused with a ValueError."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")
