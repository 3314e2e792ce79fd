"""Plays a suite into a folder, from the beginning or resumed."""

import contextlib
import shlex
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from synthfm_agents.person import is_person
from synthfm_bench.analysis.aggregate import LeaderboardRow, make_board
from synthfm_bench.execution.episode_runner import episode_fields, failure, player_fields
from synthfm_bench.execution.local_pool import Pool, default_workers
from synthfm_bench.execution.progress import Advance, progress
from synthfm_bench.execution.resume import ChangedError, changed_since, check_same, check_unchanged
from synthfm_bench.execution.trust import code_of
from synthfm_bench.plan import SHOWN, Job, Plan, env_spec
from synthfm_bench.report.files import write_tables
from synthfm_bench.results.episode_result import EpisodeResult
from synthfm_bench.results.provenance import git_commit, machine, versions
from synthfm_bench.results.run_directory import new_folder, read_run, write_first
from synthfm_bench.results.step_record import SCHEMA, StepRecord, results_hash
from synthfm_bench.results.steps_file import StepsFile
from synthfm_bench.suite import Suite
from synthfm_env.errors import InputError, UserFacingError, unknown_name
from synthfm_env.files import remove_unfinished, write_json, write_text
from synthfm_env.folder_lock import folder_lock
from synthfm_env.printable import printable

if TYPE_CHECKING:
    from synthfm_bench.execution.ray_pool import RayPool

EXECUTORS = ("local", "ray")


@dataclass(frozen=True)
class Finished:
    """A finished run.

    Attributes:
        folder: of the run.
        rows: the board.
        results_hash: over the records but for timings and device.
        pace: work and time of its workers; empty for one worker, or with nothing left to play.
        failed: how many episodes failed, by outcome.
        episodes: how many there are.
    """

    folder: Path
    rows: list[LeaderboardRow]
    results_hash: str
    pace: str
    failed: dict[str, int]
    episodes: int


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
        KeyboardInterrupt: the user stopped it; the message tells what was kept and how to go on.
    """
    _check_executor(executor)
    refuse_people(suite)
    started = datetime.now(UTC)
    folder = new_folder(suite.name, out, started) if resume is None else resume
    with folder_lock(folder):
        remove_unfinished(folder)
        if resume is None:
            about = about_run(suite, plan, started, workers)
            write_first(folder, about)
        else:
            about = check_same(resume, suite, plan)
            check_unchanged(resume, about)
        return _play(suite, plan, folder, about, workers, executor, console)


def _play(
    suite: Suite,
    plan: Plan,
    folder: Path,
    about: dict[str, Any],
    workers: int | None,
    executor: str,
    console: Console,
) -> Finished:
    """Play what a run lacks, then write its tables, and note in ``run.json`` how it ended."""
    command = resume_command(suite, folder)
    with _note_how_it_ended(folder, about, len(plan.specs), command), _steps_file(folder) as file:
        for bad in file.bad_lines[:SHOWN]:
            console.print(
                f"note: {bad}; taken out, its episode is played again", markup=False, highlight=False, soft_wrap=True
            )
        left = plan.without(set(file.episodes))
        pool = _pool(suite, about["run_id"], workers, executor, len(left.jobs))
        with (
            closing(pool),
            progress(len(left.specs), suite.clicks, console) as advance,
            closing(play_plan(left, suite, about["run_id"], pool, advance)) as ended,
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


def play_plan(
    plan: Plan, suite: Suite, run_id: str, pool: "Pool | RayPool", advance: Advance
) -> Generator[tuple[StepRecord, ...]]:
    """Yield each episode of a plan when it ends; those of broken segmenters and clickers fail without being played."""
    playable = []
    for job in plan.jobs:
        specs = []
        for spec in job.specs:
            why = plan.broken.get(("segmenter", spec.model.label)) or plan.broken.get(("clicker", spec.clicker.label))
            if why is None:
                specs.append(spec)
                continue
            players = player_fields(plan.models[spec.model.label], plan.clickers[spec.clicker.label])
            record = failure(episode_fields(spec, suite, run_id) | players, 1, why.outcome, why.error)
            advance(record)
            yield (record,)
        playable += [Job(tuple(specs))] if specs else []
    yield from pool.play(playable, advance)


def resume_command(suite: Suite, folder: Path) -> str:
    """Return the command that resumes a run, quoted for a shell."""
    trust = ["--trust-plugins"] if code_of(suite) else []
    return shlex.join(["synthfm", "bench", suite.name, "--resume", "--out", str(folder), *trust])


@contextmanager
def _steps_file(folder: Path) -> Iterator[StepsFile]:
    with _writing():
        file = StepsFile(folder / "steps.jsonl")
    with file:
        yield file


def _check_executor(executor: str) -> None:
    """Raise InputError, before anything is written, if there is no such executor or no cluster."""
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
    """Write the tables and the hash of a complete run, and return its results."""
    run = read_run(folder)
    rows = make_board(run.episodes, run.suite.targets)
    digest = results_hash(run.records)
    if about.get("results_hash") not in (None, digest):
        raise changed_since(folder, about, digest)
    write_tables(folder, run.suite.name, digest, rows)
    write_text(folder / "results_hash", digest + "\n")
    write_json(folder / "run.json", about | end_of_run("finished", len(run.episodes)) | {"results_hash": digest})
    return Finished(folder, rows, digest, _pace(pool), failures_of(run.episodes), len(run.episodes))


def failures_of(episodes: Iterable[EpisodeResult]) -> dict[str, int]:
    """Return how many episodes failed, by outcome."""
    return dict(sorted(Counter(episode.failure for episode in episodes if episode.failure).items()))


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
def _note_how_it_ended(folder: Path, about: dict[str, Any], episodes: int, command: str) -> Iterator[None]:
    """Note in ``run.json`` that a run did not finish, and tell the user what is kept and how to resume."""
    try:
        yield
    except ChangedError:
        raise
    except BaseException as error:
        played = 0
        with contextlib.suppress(OSError, InputError):
            with StepsFile(folder / "steps.jsonl", read_only=True) as file:
                played = len(file.episodes)
            stopped = isinstance(error, KeyboardInterrupt)
            write_json(folder / "run.json", about | end_of_run("stopped" if stopped else "failed", played))
        kept = f"{played} of {episodes} episodes are kept in {printable(folder)}/steps.jsonl"
        again = f"go on with: {command}"
        if isinstance(error, KeyboardInterrupt):
            raise type(error)(f"stopped: {kept}; {again}") from None
        if isinstance(error, _CannotWriteError):
            text = f"{printable(folder)} cannot be written ({error}): {kept}; make room, then {again}"
            raise UserFacingError(text) from error
        raise


def about_run(suite: Suite, plan: Plan, started: datetime, workers: int | None) -> dict[str, Any]:
    """Return what ``run.json`` holds when a run begins."""
    first = {spec.case.data.name: spec.case for spec in reversed(plan.specs)}
    return {
        "schema": SCHEMA,
        "run_id": f"{suite.name}-{started:%Y%m%dT%H%M%SZ}",
        "status": "running",
        "started": started.isoformat(timespec="seconds"),
        "episodes": len(plan.specs),
        "suite": suite.model_dump(mode="json"),
        "notes": list(plan.notes),
        "left_out": list(plan.left_out),
        "envs": {data.name: env_spec(suite, data, first[data.name]) for data in suite.data if data.name in first},
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
