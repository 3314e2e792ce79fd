"""Going on with a run that was stopped: which one, and whether it would still be the same run."""

import json
from pathlib import Path
from typing import Any

from synthfm_bench.plan import Plan
from synthfm_bench.results.provenance import versions
from synthfm_bench.results.run_directory import read_about
from synthfm_bench.suite import Suite, list_suites, load_suite, parse_suite
from synthfm_env.errors import InputError


def find_unfinished(suite: str, out: Path | None) -> Path:
    """Return the folder of the run to go on with: ``out``, or the newest one of that suite that has not finished.

    Raises:
        InputError: there is none, or no such suite.
    """
    if out is not None:
        if not (out / "run.json").is_file():
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
        named: the suite that the user says it is of.

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


def check_same(folder: Path, suite: Suite, plan: Plan) -> dict[str, Any]:
    """Return what ``run.json`` says, where the run would go on as it began.

    Raises:
        InputError: weights, click rules, versions or the suite differ from those it began with.
    """
    about = read_about(folder)
    now = {
        "suite": suite.model_dump(mode="json"),
        "segmenters": plan.models,
        "clickers": plan.clickers,
        "versions": versions(),
    }
    for key, value in json.loads(json.dumps(now)).items():
        differs = [
            f"{name} was {about[key].get(name)!r}, is {value.get(name)!r}"
            for name in sorted({*about[key], *value})
            if about[key].get(name) != value.get(name)
        ]
        if differs:
            raise InputError(
                f"--resume {folder}: its {key} are not those of now ({differs[0][:300]}); "
                "set that back, or start a new run, so that one run holds one thing"
            )
    return about
