"""A run's folder: ``run.json``, ``steps.jsonl`` as it grows, and the board at the end."""

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from synthfm_env.errors import InputError


def new_folder(suite: str, out: Path | None, now: datetime) -> Path:
    """Create the folder of a run: ``out``, or ``runs/<suite>-<UTC time>`` under the current folder.

    Raises:
        InputError: ``out`` holds something already, or the folder cannot be made.
    """
    folder = out or Path("runs") / f"{suite}-{now.astimezone(UTC):%Y%m%dT%H%M%SZ}"
    if out is None:
        folder = next(path for path in _numbered(folder) if not path.exists())
    try:
        if folder.is_dir() and any(folder.iterdir()):
            raise InputError(f"--out {folder}: already holds files; name a new folder, or remove it first")
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"--out {folder}: cannot be made ({error.strerror}); name a folder that you may write to"
        ) from None
    return folder


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON so that the file is there complete or not at all."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file so that it is there complete or not at all."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def _numbered(folder: Path) -> Iterator[Path]:
    yield folder
    number = 2
    while True:
        yield folder.with_name(f"{folder.name}-{number}")
        number += 1
