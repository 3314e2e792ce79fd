"""A run: a suite played from beginning to end into a folder, at once or with interruptions."""

import contextlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from synthfm_agents.person import is_person
from synthfm_bench.analysis.aggregate import Row, make_board
from synthfm_bench.execution.local_pool import Pool, default_workers
from synthfm_bench.execution.progress import progress
from synthfm_bench.execution.resume import check_same
from synthfm_bench.plan import Plan, env_spec
from synthfm_bench.report.files import write_tables
from synthfm_bench.results.provenance import git_commit, machine, versions
from synthfm_bench.results.run_directory import new_folder, read_run, write_json, write_text
from synthfm_bench.results.step_record import SCHEMA, results_hash
from synthfm_bench.results.steps_file import StepsFile
from synthfm_bench.suite import Suite
from synthfm_env.errors import InputError, unknown_name

if TYPE_CHECKING:
    from synthfm_bench.execution.ray_pool import RayPool

EXECUTORS = ("local", "ray")


@dataclass(frozen=True)
class Finished:
    """A finished run.

    Attributes:
        folder: where everything about it lies.
        rows: the board.
        results_hash: over the records but for timings and device.
        pace: what its workers did, in words; empty where there was one, or nothing left to play.
    """

    folder: Path
    rows: list[Row]
    results_hash: str
    pace: str


def run_suite(
    suite: Suite,
    plan: Plan,
    *,
    out: Path | None,
    workers: int | None,
    console: Console,
    resume: Path | None = None,
    executor: str = "local",
) -> Finished:
    """Play a suite and write ``run.json``, ``steps.jsonl``, the board and ``results_hash`` into a folder.

    Args:
        suite: what to play.
        plan: ``make_plan(suite)``.
        out: a new folder, or None for ``runs/<suite>-<UTC time>``.
        workers: processes to play in; None for as many as there are cores.
        console: where progress is shown.
        resume: the folder of a run that was stopped, to go on with it; what it holds is not played again.
        executor: "local", or "ray" for the machines of a Ray cluster that is running.

    Raises:
        InputError: the folder holds something already, or cannot be made or written; the run to be resumed was made
            with other weights or another suite; no such executor, or no Ray cluster.
        KeyboardInterrupt: the user stopped it; the message says what was kept and how to go on.
    """
    _check_executor(executor)
    refuse_people(suite)
    started = datetime.now(UTC)
    if resume is None:
        folder = new_folder(suite.name, out, started)
        about = about_run(suite, plan, started, workers)
        write_json(folder / "run.json", about)
    else:
        folder, about = resume, check_same(resume, suite, plan)
    steps = folder / "steps.jsonl"
    with _ends_clearly(folder, about, len(plan.tasks), suite.name), StepsFile(steps) as file:
        played = set(file.episodes)
        left = plan.without(played)
        pool = _pool(suite, about["run_id"], workers, executor, len(left.jobs))
        with (
            closing(pool),
            progress(len(left.tasks), suite.clicks, console) as advance,
            closing(pool.play(left.jobs, advance)) as ended,
        ):
            for episode in ended:
                with _writing():
                    file.append(episode)
        with _writing():
            return _finish(folder, about, pool)


def refuse_people(suite: Suite) -> None:
    """Raise InputError if a suite names a person as a clicker: no rule computes their clicks."""
    for choice in suite.clickers:
        if is_person(choice.use):
            raise InputError(
                f"clicker {choice.use}: a person clicks in `synthfm play`; name a rule, or another clicker"
            )


def _check_executor(executor: str) -> None:
    """Raise InputError, before anything is written, where there is no such executor or no cluster."""
    if executor not in EXECUTORS:
        raise unknown_name("executor", executor, EXECUTORS)
    if executor == "ray":
        from synthfm_bench.execution.ray_pool import connect

        connect()


def _pool(suite: Suite, run_id: str, workers: int | None, executor: str, jobs: int) -> "Pool | RayPool":
    if executor == "local":
        return Pool(suite, run_id, min(workers or default_workers(), max(1, jobs)))
    from synthfm_bench.execution.ray_pool import RayPool  # here, because few have Ray

    return RayPool(suite, run_id, workers)


def _finish(folder: Path, about: dict[str, Any], pool: "Pool | RayPool") -> Finished:
    run = read_run(folder)
    rows = make_board(run.episodes, about["suite"]["targets"])
    digest = results_hash(run.records)
    write_tables(folder, f"{about['suite']['name']}: results {digest[:12]}", rows)
    write_text(folder / "results_hash", digest + "\n")
    write_json(folder / "run.json", about | end_of_run("finished", len(run.episodes)) | {"results_hash": digest})
    return Finished(folder, rows, digest, _pace(pool))


class _CannotWriteError(Exception):
    """The run's folder took no more."""


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _CannotWriteError(error.strerror or str(error)) from error


def _pace(pool: "Pool | RayPool") -> str:
    if pool.workers < 2 or not pool.busy_s:
        return ""
    ratio = pool.busy_s / pool.elapsed_s
    return f"{pool.workers} workers did {pool.busy_s:.0f} s of work in {pool.elapsed_s:.0f} s, {ratio:.2f} a second"


@contextmanager
def _ends_clearly(folder: Path, about: dict[str, Any], episodes: int, suite: str) -> Iterator[None]:
    """Note in ``run.json`` how a run ended that did not finish, and say what was kept and how to go on."""
    try:
        yield
    except BaseException as error:
        played = 0
        with contextlib.suppress(OSError, InputError):
            with StepsFile(folder / "steps.jsonl", read_only=True) as file:
                played = len(file.episodes)
            stopped = isinstance(error, KeyboardInterrupt)
            write_json(folder / "run.json", about | end_of_run("stopped" if stopped else "failed", played))
        kept = f"{played} of {episodes} episodes are kept in {folder}/steps.jsonl"
        again = f"go on with: synthfm bench {suite} --resume --out {folder}"
        if isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt(f"stopped: {kept}; {again}") from None
        if isinstance(error, _CannotWriteError):
            raise RuntimeError(f"{folder} cannot be written ({error}): {kept}; make room, then {again}") from error
        raise


def about_run(suite: Suite, plan: Plan, started: datetime, workers: int | None) -> dict[str, Any]:
    """Return what ``run.json`` holds when a run begins."""
    return {
        "schema": SCHEMA,
        "run_id": f"{suite.name}-{started:%Y%m%dT%H%M%SZ}",
        "status": "running",
        "started": started.isoformat(timespec="seconds"),
        "episodes": len(plan.tasks),
        "suite": suite.model_dump(mode="json"),
        "notes": list(plan.notes),
        "left_out": list(plan.left_out),
        "envs": {data.name: env_spec(data, suite.clicks, suite.start) for data in suite.data},
        "segmenters": plan.models,
        "clickers": plan.clickers,
        "workers": workers,
        "versions": versions(),
        "git_commit": git_commit(),
        "machine": machine(),
    }


def end_of_run(status: str, played: int) -> dict[str, Any]:
    """Return what ``run.json`` gets when a run ends."""
    return {"status": status, "ended": datetime.now(UTC).isoformat(timespec="seconds"), "played": played}
