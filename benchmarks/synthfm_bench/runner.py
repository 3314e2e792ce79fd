"""A run: a suite played from beginning to end into a folder."""

from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from synthfm_bench.board import Row, make_board
from synthfm_bench.folder import new_folder, write_json, write_text
from synthfm_bench.leaderboard import csv_board, markdown_board
from synthfm_bench.pool import play_all
from synthfm_bench.progress import progress
from synthfm_bench.provenance import git_commit, machine, versions
from synthfm_bench.records import SCHEMA, episodes_of, read_steps, results_hash, write_steps
from synthfm_bench.suite import Suite
from synthfm_bench.tasks import Plan, env_spec


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: where everything about it lies.
        rows: the board.
        results_hash: over the records but for timings and device.
    """

    folder: Path
    rows: list[Row]
    results_hash: str


def run_suite(suite: Suite, plan: Plan, *, out: Path | None, workers: int, console: Console) -> Run:
    """Play a suite and write ``run.json``, ``steps.jsonl``, the board and ``results_hash`` into a new folder.

    Args:
        suite: what to play.
        plan: ``make_plan(suite)``.
        out: the folder, or None for ``runs/<suite>-<UTC time>``.
        workers: processes to play in.
        console: where progress is shown.

    Raises:
        InputError: the folder holds something already, or cannot be made.
        KeyboardInterrupt: the user stopped it; the message says what was kept.
    """
    started = datetime.now(UTC)
    folder = new_folder(suite.name, out, started)
    about = _about(suite, plan, started, workers)
    write_json(folder / "run.json", about)
    played, episodes = 0, len(plan.tasks) * len(suite.clickers)
    try:
        with (
            (folder / "steps.jsonl").open("w", encoding="utf-8") as file,
            progress(episodes, suite.clicks, console) as advance,
            closing(play_all(suite, about["run_id"], plan.tasks, workers)) as records,
        ):
            for record in records:
                write_steps(file, [record])
                played += record.terminated or record.truncated
                advance(record)
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt)
        write_json(folder / "run.json", about | _end("stopped" if stopped else "failed", played))
        if stopped:
            raise KeyboardInterrupt(
                f"stopped: {played} of {episodes} episodes are kept in {folder}/steps.jsonl"
            ) from None
        raise
    steps = read_steps(folder / "steps.jsonl")
    rows, digest = make_board(episodes_of(steps)), results_hash(steps)
    write_text(folder / "leaderboard.csv", csv_board(rows))
    write_text(folder / "leaderboard.md", markdown_board(rows, f"{suite.name}: results {digest[:12]}"))
    write_text(folder / "results_hash", digest + "\n")
    write_json(folder / "run.json", about | _end("finished", played) | {"results_hash": digest})
    return Run(folder, rows, digest)


def _about(suite: Suite, plan: Plan, started: datetime, workers: int) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "run_id": f"{suite.name}-{started:%Y%m%dT%H%M%SZ}",
        "status": "running",
        "started": started.isoformat(timespec="seconds"),
        "episodes": len(plan.tasks) * len(suite.clickers),
        "suite": suite.model_dump(mode="json"),
        "notes": list(plan.notes),
        "envs": {data.name: env_spec(data, suite.clicks) for data in suite.data},
        "segmenters": plan.models,
        "clickers": {name: {"oracle": oracle} for name, oracle in plan.oracles.items()},
        "workers": workers,
        "versions": versions(),
        "git_commit": git_commit(),
        "machine": machine(),
    }


def _end(status: str, played: int) -> dict[str, Any]:
    return {"status": status, "ended": datetime.now(UTC).isoformat(timespec="seconds"), "played": played}
