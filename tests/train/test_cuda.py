"""Tests training on a CUDA device."""

import json

import pytest
import torch
from safetensors.torch import load_file
from tiny_training import CLIPS, TINY

from synthfm_train.run import train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_run_trains_resumes_and_its_weights_play_on_the_cpu(tmp_path, precision):
    run = {
        "recipe": "synthfm3d-nano",
        "overrides": (*TINY, CLIPS, f"precision={precision}", "checkpoint_every=2"),
        "device": "cuda",
        "workers": 1,
    }
    weights = load_file(train(out=tmp_path, **run))
    assert all(value.isfinite().all() for value in weights.values())
    longer = (*run["overrides"], "phases.0.steps=6")
    train(out=tmp_path, resume=True, **{**run, "overrides": longer})
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert steps == [4, 4, 6, 6]
