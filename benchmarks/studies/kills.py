"""Kills a run at random points until it is finished, many times, and compares its hash with an undisturbed run's.

    python benchmarks/studies/kills.py --runs 100

Each run of a small suite is started with ``synthfm bench``, killed with SIGKILL (the whole process group) after a
random share of an undisturbed run's seconds, and resumed, until a start ends by itself. It prints one line a run and
the number of equal hashes. All chance follows from ``--seed``; the points at which the kills hit depend on the machine.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SUITE = """
name = "killed"
segmenters = ["geodesic"]
clickers = ["random", "ritm-3d-v1"]
clicks = 3

[[data]]
kind = "synthetic"
name = "volumes"
shape = [8, 48, 48]
cases = 4
"""


def bench(folder: Path, *options: str) -> "subprocess.Popen[bytes]":
    """Start ``synthfm bench`` on the suite, in a process group of its own."""
    command = [sys.executable, "-m", "synthfm_bench.cli", "bench", str(folder.parent / "killed.toml")]
    return subprocess.Popen(
        [*command, "--out", str(folder), "--workers", "1", *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def undisturbed(folder: Path) -> tuple[str, float]:
    """Return the hash of a run that nothing disturbs, and its seconds."""
    began = time.monotonic()
    if bench(folder).wait() != 0:
        raise RuntimeError("the undisturbed run failed")
    return (folder / "results_hash").read_text(), time.monotonic() - began


def killed_and_resumed(folder: Path, rng: np.random.Generator, seconds: float, most_kills: int) -> int:
    """Play a run with kills until it ends by itself, and return how often it was killed."""
    for kills in range(most_kills + 1):
        started = (folder / "run.json").is_file()
        if not started:
            shutil.rmtree(folder, ignore_errors=True)  # killed before there was a run
        process = bench(folder, *(["--resume"] if started else []))
        try:
            process.wait(rng.uniform(0.2, 1.0) * seconds if kills < most_kills else None)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            continue
        return kills
    raise AssertionError("the last start is not killed")


def main() -> None:
    """Print how many runs reached the hash of the undisturbed one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--most-kills", type=int, default=3, help="of one run")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    rng = np.random.default_rng(chosen.seed)
    equal = kills = 0
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "killed.toml").write_text(SUITE, encoding="utf-8")
        expected, seconds = undisturbed(Path(place) / "undisturbed")
        for number in range(chosen.runs):
            folder = Path(place) / f"run-{number}"
            times = killed_and_resumed(folder, rng, seconds, chosen.most_kills)
            found = (folder / "results_hash").read_text()
            equal += found == expected
            kills += times
            hidden = [path.name for path in folder.iterdir() if path.name.startswith(".")]
            print(f"run {number}: {times} kills, hash {found[:12]}, left behind: {hidden or 'nothing'}", flush=True)
            shutil.rmtree(folder)
    print(f"{equal} of {chosen.runs} runs reached the hash of the undisturbed run, with {kills} kills in all")


if __name__ == "__main__":
    main()
