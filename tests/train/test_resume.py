"""Tests that a killed and resumed training equals one that ran through, in every precision."""

import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file
from tiny_training import TINY

from synthfm_train.run import train

RECIPE = "synthfm3d-nano"
PHASES = (
    "phases=[{kind='dense',steps=5,volumes=1,cuts=1},{steps=15,volumes=1,cuts=1,slices=3,objects=1,corrections=1,"
    "clicks=2,boxes=0.3,masks=0.2,images=0.3}]"
)
CODE = (
    "import sys; from pathlib import Path; from synthfm_train.run import train\n"
    f"train('{RECIPE}', out=Path(sys.argv[1]), overrides=tuple(sys.argv[2:]), device='cpu', workers=0)"
)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_killed_and_resumed_training_equals_a_straight_one(tmp_path, precision):
    changes = (*TINY, PHASES, "checkpoint_every=1", f"precision={precision}")
    run = {"overrides": changes, "device": "cpu", "workers": 0}
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    killed = subprocess.Popen([sys.executable, "-W", "ignore", "-c", CODE, str(broken), *changes])
    while not (broken / "checkpoint.pt").exists() and killed.poll() is None:
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    weights = [load_file(train(RECIPE, out=out, resume=out == broken, **run)) for out in (straight, broken)]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    states = [torch.load(out / "checkpoint.pt", weights_only=True) for out in (straight, broken)]
    assert states[0]["phase"] == states[1]["phase"] == 1
    states = [state | state["objective"] for state in states]
    for part in ("model", "head", "average"):
        assert all(torch.equal(value, states[1][part][key]) for key, value in states[0][part].items())
    moments = [[row["exp_avg"] for row in state["optimizers"][0]["state"].values()] for state in states]
    assert all(torch.equal(a, b) for a, b in zip(*moments, strict=True))
