"""Tests of how worker processes are started."""

import multiprocessing
import subprocess
import sys

import pytest

SCRIPT = """
import os, signal, time
from synthfm_bench.execution.workers import start_worker

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    process = start_worker(time.sleep, 1)
    while process.exitcode is None:  # Ctrl-C at every moment of a worker's life
        os.kill(process.pid, signal.SIGINT)
        process.join(0.01)
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        print(process.exitcode)
"""


@pytest.mark.skipif(
    "forkserver" not in multiprocessing.get_all_start_methods(), reason="this system has no server of workers"
)
def test_workers_ignore_ctrl_c_from_their_start_and_the_parent_does_not(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout, done.stderr) == ("0\n", "")
