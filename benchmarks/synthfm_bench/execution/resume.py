"""Finds the run to resume, and checks that nothing that its results depend on has changed."""

import json
import os
from pathlib import Path
from typing import Any

from synthfm_bench.plan import Plan
from synthfm_bench.results.provenance import versions
from synthfm_bench.results.run_directory import read_about
from synthfm_bench.results.step_record import results_hash
from synthfm_bench.results.steps_file import StepsFile
from synthfm_bench.suite import Suite, list_suites, load_suite, parse_suite
from synthfm_env.errors import InputError


def find_unfinished(suite: str, out: Path | None) -> Path:
    """Return the folder of the run to resume: ``out``, or the newest one of that suite that has not finished.

    Raises:
        InputError: there is none, or no such suite.
    """
    if out is not None:
        if not os.path.isfile(out / "run.json"):
            raise InputError(f"--resume --out {out}: holds no run (no run.json); leave out --resume to start one there")
        return out
    name = load_suite(suite).name
    runs = sorted(Path("runs").glob(f"{name}-*/run.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in runs:
        if read_about(path.parent).get("status") != "finished":
            return path.parent
    raise InputError(
        f"--resume: no run of {name} under {Path('runs').absolute()} was stopped; "
        "name its folder with --out, or leave out --resume to start a new one"
    )


def suite_of(folder: Path, named: str | None = None) -> Suite:
    """Return the suite that a run was started with.

    Args:
        folder: of the run.
        named: the suite that the user named.

    Raises:
        InputError: ``run.json`` cannot be read or is of another version, or the run is of another packaged suite.
    """
    about = read_about(folder)
    if not isinstance(about.get("suite"), dict):
        raise InputError(f"{folder}/run.json: names no suite; the file was changed, or is no run of this program")
    suite = parse_suite(about["suite"], f"of {folder}/run.json")
    if named in list_suites() and named != suite.name:
        raise InputError(
            f"--resume {folder}: is a run of {suite.name}, not of {named}; name that suite, or another folder"
        )
    return suite


class ChangedError(InputError):
    """The records of a finished run were edited."""


def check_same(folder: Path, suite: Suite, plan: Plan) -> dict[str, Any]:
    """Return ``run.json`` of a run that nothing forbids to resume.

    Raises:
        InputError: weights, click rules, versions or the suite differ from those it began with.
    """
    about = read_about(folder)
    if not about.get("run_id"):
        raise InputError(f"--resume {folder}: run.json names no run_id; the file was changed: start a new run")
    now = {
        "suite": suite.model_dump(mode="json"),
        "segmenters": plan.models,
        "clickers": plan.clickers,
        "versions": versions(),
    }
    for key, value in json.loads(json.dumps(now)).items():
        before = about.get(key, {})
        if before != value:
            difference = _first_difference(before, value)[:300]
            raise InputError(
                f"--resume {folder}: its {key} are not those of now ({difference}); restore them, or start a new run"
            )
    return about


def _first_difference(before: Any, now: Any, name: str = "") -> str:
    """Return the first entry that differs between two tables, by name, with both values."""
    if isinstance(before, dict) and isinstance(now, dict):
        key = min(key for key in {*before, *now} if before.get(key) != now.get(key))
        return _first_difference(before.get(key), now.get(key), f"{name}: {key}" if name else key)
    return f"{name} was {before!r}, is {now!r}"


def check_unchanged(folder: Path, about: dict[str, Any]) -> None:
    """Refuse to resume a finished run whose records were edited.

    A run with bad lines or missing episodes passes: it is repaired, and its hash is compared at the end.

    Raises:
        ChangedError: the records do not give the results hash in ``run.json``.
    """
    if about.get("results_hash") is None:
        return
    with StepsFile(folder / "steps.jsonl", read_only=True) as file:
        if file.bad_lines or file.incomplete or len(file.episodes) != about.get("episodes"):
            return
        digest = results_hash(record for episode in file.episodes.values() for record in episode.steps)
    if digest != about["results_hash"]:
        raise changed_since(folder, about, digest)


def changed_since(folder: Path, about: dict[str, Any], digest: str) -> ChangedError:
    """Return the error for records that do not give the results hash of their run."""
    return ChangedError(
        f"--resume {folder}: its records give the results hash {digest[:12]}, run.json names "
        f"{about['results_hash'][:12]}: they were changed since the run finished; `synthfm verify {folder}` tells "
        "which, a new run plays them again"
    )
