"""Reads and writes a run's directory: ``run.json``, ``steps.jsonl`` and the tables."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from synthfm_bench.results.episode_result import EpisodeResult, episodes_of
from synthfm_bench.results.step_record import StepRecord, read_steps
from synthfm_bench.suite import Suite, parse_suite
from synthfm_env.errors import InputError
from synthfm_env.files import write_json
from synthfm_env.folder_lock import is_left_over
from synthfm_env.printable import printable

_MOST_ABOUT = 64 << 20  # bytes of run.json


class _About(BaseModel):
    """The types of the fields of ``run.json``. Each may be missing; others may be there."""

    model_config = ConfigDict(extra="allow", strict=True)

    run_id: str = ""
    status: str = ""
    started: str = ""
    episodes: int = 0
    suite: dict[str, Any] = {}
    notes: list[str] = []
    left_out: list[Any] = []
    segmenters: dict[str, dict[str, Any]] = {}
    clickers: dict[str, dict[str, Any]] = {}
    envs: dict[str, Any] = {}
    versions: dict[str, str] = {}
    machine: dict[str, Any] = {}
    results_hash: str | None = None


@dataclass(frozen=True, eq=False)
class Run:
    """A run as its folder tells it.

    Attributes:
        folder: its path.
        about: ``run.json``.
        episodes: in the order in which they were played.
        damage: what is wrong with its records, a line each.
    """

    folder: Path
    about: dict[str, Any]
    episodes: tuple[EpisodeResult, ...]
    damage: tuple[str, ...] = ()

    @cached_property
    def suite(self) -> Suite:
        """The suite that was played.

        Raises:
            InputError: ``run.json`` holds none, or one that this version cannot read.
        """
        if not self.about.get("suite"):
            raise InputError(f"{self.folder}/run.json: names no suite; the file was changed, or belongs to no run")
        return parse_suite(self.about["suite"], f"of {self.folder}/run.json")

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
        InputError: it is missing or broken, or a field has the wrong type.
    """
    path = folder / "run.json"
    if os.path.exists(path) and not os.path.isfile(path):
        raise InputError(f"{path}: is no file; name the folder of a run, as runs/quick-...")
    try:
        if path.stat().st_size > _MOST_ABOUT:
            raise InputError(f"{path}: holds more than {_MOST_ABOUT >> 20} MiB; it is no file of a run")
        about = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); name the folder of a run, as runs/quick-..."
        ) from None
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise InputError(f"{path}: not valid JSON ({reason}); the file was changed or cut") from None
    if not isinstance(about, dict):
        raise InputError(f"{path}: is no file of a run; name the folder of a run, as runs/quick-...")
    try:
        _About.model_validate(about)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = printable(".".join(map(str, first["loc"])))
        raise InputError(f"{path}: {where}: {first['msg'].lower()}; the file was changed") from None
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
        if folder.is_dir() and any(not is_left_over(path.name) for path in folder.iterdir()):
            raise InputError(f"--out {folder}: already holds files; name a new folder, or remove it first")
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"--out {folder}: cannot be made ({error.strerror}); name a folder that you may write to"
        ) from None
    return folder


def write_first(folder: Path, about: dict[str, Any]) -> None:
    """Write the ``run.json`` of a new run, in a folder that this process has locked.

    Raises:
        InputError: another process has begun a run there meanwhile, or the file cannot be written.
    """
    if (folder / "run.json").exists():
        raise InputError(f"--out {folder}: already holds a run; name a new folder, or add --resume to go on with it")
    try:
        write_json(folder / "run.json", about)
    except OSError as error:
        raise InputError(f"--out {folder}: cannot be written ({error.strerror}); make room or name another") from None


def _numbered(folder: Path) -> Iterator[Path]:
    yield folder
    number = 2
    while True:
        yield folder.with_name(f"{folder.name}-{number}")
        number += 1
