"""SIGTERM and SIGHUP end a run as Ctrl-C does: its state is written, and the message says how to go on."""

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
    ("name", "status"),
    [
        ("SIGTERM", 143),
        pytest.param("SIGHUP", 129, marks=pytest.mark.slow),
        pytest.param("SIGINT", 130, marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_a_run_with_its_state_and_the_next_command(tmp_path, monkeypatch, name, status):
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
