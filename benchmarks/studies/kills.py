"""Kills a run at random points until it is finished, many times, and compares its hash with an undisturbed run's.

    python benchmarks/studies/kills.py --runs 100

Each run of a small suite is started with ``synthfm bench``, killed with SIGKILL (the whole process group) after a
random share of an undisturbed run's seconds, and resumed, until a start ends by itself, at the latest after
``--most-kills`` kills. It prints one line a run and the number of equal hashes. All chance follows from ``--seed``; the
points at which the kills hit depend on the machine.
"""

import argparse
import importlib
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from synthfm_bench.cli.app import main as main_of_synthfm
from synthfm_bench.execution import local_pool, workers

# A run imports these when it needs them. Here they are imported once for all forks.
LATE = (
    "torch",
    "synthfm_env.envs.synthetic_env",
    "synthfm_env.segmenters.geodesic",
    "synthfm_bench.execution.episode_runner",
    "synthfm_bench.execution.run",
    "synthfm_bench.report.charts",
    "synthfm_bench.report.gallery",
    "synthfm_bench.report.html",
    "synthfm_bench.report.reproduction",
    "synthfm_bench.results.parquet",
    "pandas",
    "plotly.graph_objects",
    "plotly.io",
    "pyarrow.parquet",
    "tomli_w",
)
SUITE = """
name = "killed"
segmenters = ["geodesic"]
clickers = ["random", "ritm-3d-v1"]
clicks = 3

[[data]]
kind = "synthetic"
name = "volumes"
shape = [8, 32, 32]
cases = 4
"""


def bench(folder: Path, *options: str) -> int:
    """Start ``synthfm bench`` on the suite in a process group of its own, and return the group's number.

    The process and its workers are forks of this one, so that the kills hit what a run reads and writes, not the
    seconds in which Python imports torch.
    """
    process = os.fork()
    if process:
        return process
    os.setsid()
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    workers.worker_context = local_pool.worker_context = lambda: multiprocessing.get_context("fork")
    suite = str(folder.parent / "killed.toml")
    sys.argv = ["synthfm", "bench", suite, "--out", str(folder), "--workers", "1", *options]
    status = 1
    try:
        main_of_synthfm()
    except SystemExit as end:
        status = int(end.code or 0)
    finally:
        os._exit(status)


def status_within(process: int, seconds: float) -> int | None:
    """Return the exit status of a process, None if it has not ended after so many seconds."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    return None


def undisturbed(folder: Path) -> tuple[str, float]:
    """Return the hash of a run that nothing disturbs, and its seconds."""
    began = time.monotonic()
    if status_within(bench(folder), 3600) != 0:
        raise RuntimeError("the undisturbed run failed")
    return (folder / "results_hash").read_text(encoding="utf-8"), time.monotonic() - began


def killed_and_resumed(folder: Path, rng: np.random.Generator, seconds: float, most_kills: int) -> int:
    """Play a run with kills until it ends by itself, and return how often it was killed."""
    for kills in range(most_kills + 1):
        started = (folder / "run.json").is_file()
        if not started:
            shutil.rmtree(folder, ignore_errors=True)  # killed before there was a run
        process = bench(folder, *(["--resume"] if started else []))
        status = status_within(process, rng.uniform(0.0, 1.0) * seconds if kills < most_kills else 3600)
        if status is None:
            os.killpg(process, signal.SIGKILL)
            os.waitpid(process, 0)
            continue
        if status != 0:
            raise RuntimeError(f"a start ended with exit status {status}")
        return kills
    raise AssertionError("the last start is not killed")


def main() -> None:
    """Print how many runs reached the hash of the undisturbed one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--most-kills", type=int, default=3, help="of one run")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for name in LATE:
        importlib.import_module(name)
    rng = np.random.default_rng(args.seed)
    equal = kills = 0
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "killed.toml").write_text(SUITE, encoding="utf-8")
        expected, seconds = undisturbed(Path(place) / "undisturbed")
        for number in range(args.runs):
            folder = Path(place) / f"run-{number}"
            times = killed_and_resumed(folder, rng, seconds, args.most_kills)
            found = (folder / "results_hash").read_text(encoding="utf-8")
            equal += found == expected
            kills += times
            hidden = [path.name for path in folder.iterdir() if path.name.startswith(".")]
            print(f"run {number}: {times} kills, hash {found[:12]}, left behind: {hidden or 'nothing'}", flush=True)
            shutil.rmtree(folder)
    print(f"{equal} of {args.runs} runs reached the hash of the undisturbed run, with {kills} kills in all")


if __name__ == "__main__":
    main()
