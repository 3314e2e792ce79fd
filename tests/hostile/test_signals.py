"""Tests that SIGTERM and SIGHUP end a run as Ctrl-C does, with its state written and the command to resume."""

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from synthfm_env.volumes import Volume, save_volume


@pytest.mark.parametrize(
    ("names", "status"),
    [
        pytest.param(["SIGTERM"], 143, marks=pytest.mark.slow),
        pytest.param(["SIGHUP"], 129, marks=pytest.mark.slow),
        pytest.param(["SIGINT"], 130, marks=pytest.mark.slow),
        (["SIGINT", "SIGTERM"], 130),  # Python handles both at once, the lower number first
    ],
)
def test_the_first_signal_ends_a_run_with_its_state_and_the_next_command(tmp_path, monkeypatch, names, status):
    monkeypatch.chdir(tmp_path)
    label = np.zeros((8, 24, 24), dtype=np.int16)
    label[2:6, 6:14, 6:14] = 1
    save_volume(Volume((label * 50).astype(np.float32), label), tmp_path / "scan.nii", tmp_path / "truth.nii")
    os.mkfifo("waiting")
    command = ["bench", "quick", "--image", "scan.nii", "--label", "truth.nii", "--workers", "1", "--out", "my run;x"]
    process = subprocess.Popen(
        [sys.executable, "-m", "synthfm_bench.cli", *command, "--segmenter", "hostile_players:Waits"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: [signal.signal(getattr(signal, one), signal.SIG_DFL) for one in ("SIGINT", "SIGHUP")],
    )
    with open("waiting") as pipe:  # opens when the segmenter has begun to wait
        pipe.read(1)
        for name in names:
            os.killpg(process.pid, getattr(signal, name))  # the workers are signalled too
    _, err = process.communicate(timeout=120)
    assert process.returncode == status
    (line,) = err.splitlines()
    kept, _, following = line.partition("; go on with: ")
    assert kept == "synthfm: stopped: 0 of 2 episodes are kept in my run;x/steps.jsonl"
    assert shlex.split(following) == [
        *("synthfm", "bench", "quick", "--resume", "--out", "my run;x", "--trust-plugins"),
    ]
    assert json.loads(Path("my run;x/run.json").read_text(encoding="utf-8"))["status"] == "stopped"
    assert not Path("my run;x/writer.lock").exists()


SCRIPT = """
import signal, sys
from synthfm_bench.cli.stop_signals import StopSignals

stops = StopSignals()
stops.install()
try:
    signal.raise_signal(signal.SIGTERM)
except KeyboardInterrupt as first:
    print(type(first).__name__)
signal.raise_signal(signal.SIGINT)
print("the second is ignored", flush=True)
if sys.argv[1] == "third":
    signal.raise_signal(signal.SIGINT)
stops.ignore()
signal.raise_signal(signal.SIGTERM)
signal.raise_signal(signal.SIGINT)
"""


@pytest.mark.parametrize(
    ("third", "status", "err"), [("", 0, ""), ("third", 130, "synthfm: stopped at once\n")], ids=["two", "three"]
)
def test_a_second_signal_is_ignored_and_a_third_ends_the_process_at_once(third, status, err):
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, third],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert (ended.returncode, ended.stderr) == (status, err)
    assert ended.stdout == "Terminated\nthe second is ignored\n"


def test_an_ignored_signal_stays_ignored(monkeypatch):
    from synthfm_bench.cli.stop_signals import StopSignals

    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    stops = StopSignals()
    stops.install()
    stops.ignore()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    signal.raise_signal(signal.SIGHUP)
