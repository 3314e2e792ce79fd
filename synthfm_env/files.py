"""Writes files and folders so that each one is there complete or not at all."""

import contextlib
import io
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_UNFINISHED = re.compile(r"\.synthfm-[0-9a-f]{16}\.part")
# A planted link must never be followed: the name is drawn at random and the file must be new. Windows lacks O_NOFOLLOW.
_NEW_FILE = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[io.BufferedWriter]:
    """Open a file for writing that replaces ``path`` when the block ends without an error.

    The bytes go to a new file of a random name in the same folder. An error in the block removes it and leaves
    ``path`` as it was. If ``path`` is a symbolic link, the link is replaced; its target is never written to.

    Args:
        path: the file to write. Its folder must exist.

    Yields:
        The binary file.

    Raises:
        OSError: the file cannot be written.

    Example:
        >>> import pathlib, tempfile
        >>> target = pathlib.Path(tempfile.mkdtemp()) / "notes.txt"
        >>> with atomic_write(target) as file:
        ...     _ = file.write(b"complete")
        >>> target.read_text()
        'complete'
    """
    target = Path(path)
    part = _unfinished_beside(target)
    try:
        with os.fdopen(os.open(part, _NEW_FILE, 0o666), "wb") as file:
            yield file
        os.replace(part, target)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def _unfinished_beside(target: Path) -> Path:
    return target.with_name(f".synthfm-{secrets.token_hex(8)}.part")


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a UTF-8 text file with ``atomic_write``. Lone surrogates are written as backslash escapes.

    Raises:
        OSError: the file cannot be written.

    Example:
        >>> import pathlib, tempfile
        >>> target = pathlib.Path(tempfile.mkdtemp()) / "notes.txt"
        >>> write_text(target, "Schädel")
        >>> target.read_text(encoding="utf-8")
        'Schädel'
    """
    with atomic_write(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))


def write_json(path: str | os.PathLike[str], content: dict[str, Any]) -> None:
    r"""Write a JSON file with ``write_text``.

    Raises:
        OSError: the file cannot be written.
        ValueError: a number is infinite or NaN.

    Example:
        >>> import pathlib, tempfile
        >>> target = pathlib.Path(tempfile.mkdtemp()) / "run.json"
        >>> write_json(target, {"seed": 3})
        >>> target.read_text(encoding="utf-8")
        '{\n  "seed": 3\n}\n'
    """
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def is_unfinished(name: str) -> bool:
    """Tell whether a name is one that ``atomic_write`` gives to what it is writing.

    Example:
        >>> is_unfinished(".synthfm-0123456789abcdef.part")
        True
    """
    return _UNFINISHED.fullmatch(name) is not None


def remove_unfinished(folder: Path) -> None:
    """Remove the files and folders that killed processes left unfinished in a folder. No other process may write to it.

    Args:
        folder: it need not exist.

    Example:
        >>> import pathlib, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> (folder / ".synthfm-0123456789abcdef.part").touch()
        >>> remove_unfinished(folder)
        >>> list(folder.iterdir())
        []
    """
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for entry in os.scandir(folder):
            if is_unfinished(entry.name):
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path)
                else:
                    os.unlink(entry.path)
