"""A run's directory: ``run.json``, ``steps.jsonl`` and the tables."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from synthfm_bench.results.episode_result import Episode, episodes_of
from synthfm_bench.results.step_record import StepRecord, read_steps
from synthfm_env.errors import InputError


@dataclass(frozen=True, eq=False)
class Run:
    """A run as its folder tells it.

    Attributes:
        folder: where it lies.
        about: ``run.json``.
        episodes: in the order in which they were played.
    """

    folder: Path
    about: dict[str, Any]
    episodes: tuple[Episode, ...]

    @property
    def records(self) -> list[StepRecord]:
        """All step records."""
        return [record for episode in self.episodes for record in episode.steps]


def read_run(folder: Path) -> Run:
    """Read a run's ``run.json`` and ``steps.jsonl``.

    Raises:
        InputError: there is no run in the folder, a file is broken, or an episode lacks steps.
    """
    return Run(folder, read_about(folder), tuple(episodes_of(read_steps(folder / "steps.jsonl"))))


def read_about(folder: Path) -> dict[str, Any]:
    """Read a run's ``run.json``.

    Raises:
        InputError: it is missing or broken.
    """
    path = folder / "run.json"
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); name the folder of a run, as runs/quick-..."
        ) from None
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error}); the file was changed or cut") from None
    if not isinstance(about, dict):
        raise InputError(f"{path}: is no run's file; name the folder of a run, as runs/quick-...")
    return about


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
