"""A training that is killed and resumed takes the same steps as one that ran through."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

TINY = [
    "architecture.image_size=32",
    "architecture.embed_dim=16",
    "architecture.stages=[1,1,2,1]",
    "architecture.global_att_blocks=[3]",
    "architecture.window_spec=[4,4,2,2]",
    "architecture.d_model=32",
    "architecture.mem_dim=16",
    "data.shape=[8,32,32]",
    "data.min_pixels=8",
    "phases=[{kind='dense',steps=6,volumes=1},{steps=8,volumes=1,slices=3,objects=1,corrections=1}]",
    "validation_volumes=1",
    "evaluate_every=100",
    "checkpoint_every=1",
]
CODE = "import sys; from pathlib import Path; from synthfm_train.cli import train\n"
CODE += (
    "train('synthfm3d-nano', out=Path(sys.argv[1]), resume=sys.argv[2]=='1', overrides=tuple(sys.argv[3:]), workers=0)"
)


def start(out, resume=False):
    command = [sys.executable, "-W", "ignore", "-c", CODE, str(out), str(int(resume)), *TINY]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=os.environ)


@pytest.mark.slow
def test_killed_and_resumed_equals_straight(tmp_path):
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    reference = start(straight)
    killed = start(broken)
    while not (broken / "checkpoint.pt").exists() and killed.poll() is None:
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    resumed = start(broken, resume=True)
    for process in (reference, resumed):
        _, errors = process.communicate()
        assert process.returncode == 0, errors.decode()[-2000:]
    states = [torch.load(run / "checkpoint.pt", weights_only=True) for run in (straight, broken)]
    assert states[0]["phase"] == states[1]["phase"] == 1
    for key, value in states[0]["model"].items():
        assert torch.equal(value, states[1]["model"][key]), key
    weights = [load_file(run / "weights.safetensors") for run in (straight, broken)]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
