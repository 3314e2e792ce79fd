"""Tests several processes that share the volumes of a step and keep one model."""

import json
import subprocess
import sys

import pytest
import torch
from tiny_training import CLIPS, TINY, alone, tiny_objective

from synthfm_env.errors import InputError
from synthfm_train.distributed import Processes, start_processes
from synthfm_train.sam2.clip_dataset import ClipDataset, load_clips
from synthfm_train.sam2.objective import TrainingObjective
from synthfm_train.sam2.recipe import Phase, load_recipe

SCRIPT = """
import sys
from pathlib import Path

import torch
from synthfm_train.run import train
from synthfm_train.loop import TrainingLoop

out, run = Path(sys.argv[1]), TrainingLoop.run

def and_keep(self):
    weights = run(self)
    torch.save(self.objective.model.state_dict(), out / f"rank{self.processes.rank}.pt")
    return weights

TrainingLoop.run = and_keep
train("synthfm3d-nano", out=out, overrides=tuple(sys.argv[2:]), device="cpu", devices=2, workers=0)
print("first process done")
"""


@pytest.mark.slow
def test_two_processes_train_one_model(tmp_path):
    pytest.importorskip("lightning_fabric", reason="needs the extra multigpu")
    script = tmp_path / "two.py"
    script.write_text(SCRIPT)
    changes = (*TINY, CLIPS, "phases.0.volumes=2", "phases.0.boxes=0.5", "checkpoint_every=2")
    command = [sys.executable, "-W", "ignore", str(script), str(tmp_path), *changes]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("first process done") == 1
    states = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    start = tiny_objective(CLIPS).model.state_dict()
    assert not torch.equal(start["no_mem_embed"], states[0]["no_mem_embed"])
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert steps == [4, 4]
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 4


def test_processes_share_the_volumes_of_one():
    recipe = load_recipe("synthfm3d-nano", TINY)
    dataset = ClipDataset(recipe.data, Phase(steps=2, volumes=4, cuts=1, objects=1), 32, first=10, count=8)

    def seeds(share, shares):
        return [clips.seed.tolist() for clips in load_clips(dataset, 4, share=share, shares=shares, workers=0)]

    assert seeds(0, 1) == [[10, 11, 12, 13], [14, 15, 16, 17]]
    assert seeds(0, 2) == [[10, 11], [14, 15]]
    assert seeds(1, 2) == [[12, 13], [16, 17]]


class _Pretended:
    """Stands in for Fabric: the other process holds tensors of ones."""

    global_rank, world_size = 0, 2

    def all_reduce(self, data, reduce_op):
        assert reduce_op == "mean"
        return (data + 1) / 2

    def all_gather(self, data):
        return torch.stack([data, torch.ones_like(data)])


def test_gradients_become_their_mean_and_flags_are_shared():
    two = Processes(torch.device("cpu"), _Pretended())
    gradients = [torch.full((2, 3), 3.0), torch.zeros(4)]
    two.average(gradients)
    assert gradients[0].tolist() == [[2.0] * 3] * 2
    assert gradients[1].tolist() == [0.5] * 4
    assert two.any(False)
    assert two.gather([7]) == [7, 1]
    assert not alone().any(False)


def test_what_cannot_be_shared_or_started_is_named(monkeypatch):
    recipe = load_recipe("synthfm3d-nano", (*TINY, CLIPS, "phases.0.volumes=3"))
    with pytest.raises(InputError, match=r"phases\.0\.volumes is 3, which 2 processes cannot share evenly"):
        TrainingObjective(recipe, Processes(torch.device("cpu"), _Pretended()), workers=0)
    with pytest.raises(InputError, match="give --device cpu"):
        start_processes("cpu:0", 2)
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    with pytest.raises(InputError, match=r"synthfm_env\[multigpu\]"):
        start_processes("cpu", 2)
