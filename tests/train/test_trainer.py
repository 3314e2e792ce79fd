"""Tests the training loop under faults: divergence, Ctrl-C, prompts of every kind."""

import json
import os
import signal

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny_training import CLIPS, IMAGES, TINY, tiny_objective, tiny_trainer

from synthfm_env.errors import InputError
from synthfm_train.display import Display
from synthfm_train.loop import DivergedError
from synthfm_train.run import train


def rows(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def press_ctrl_c_at(step, monkeypatch):
    shown = Display.step

    def pressing(self, done, *rest):
        shown(self, done, *rest)
        if done == step:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Display, "step", pressing)


def test_ctrl_c_saves_and_the_resumed_run_is_the_straight_one(tmp_path, monkeypatch):
    run = {"recipe": "synthfm3d-nano", "overrides": (*TINY, CLIPS), "device": "cpu", "workers": 0}
    with monkeypatch.context() as patch:
        press_ctrl_c_at(2, patch)
        with pytest.raises(KeyboardInterrupt, match="stopped and saved; go on with: synthfm train synthfm3d-nano --r"):
            train(out=tmp_path / "broken", **run)
    assert torch.load(tmp_path / "broken" / "checkpoint.pt", weights_only=True)["step"] == 2
    with (tmp_path / "broken" / "metrics.jsonl").open("a") as file:
        file.write('{"phase": 0, "step": 3, "loss": 1.0}\n{"phase": 0, "st')  # what a kill after step 3 leaves
    broken, straight = (load_file(train(out=tmp_path / n, resume=n == "broken", **run)) for n in ("broken", "straight"))
    assert all(torch.equal(broken[name], straight[name]) for name in straight)
    assert [row["step"] for row in rows(tmp_path / "broken")] == [4, 4]
    picture = np.array(Image.open(tmp_path / "straight" / "pictures" / "phase1-step000004.png"))
    assert picture.shape[1] == 5 * picture.shape[0]  # one clip: after a click, three tracked slices, after five
    assert len({tuple(colour) for colour in picture.reshape(-1, 3)}) > 100
    with pytest.raises(InputError, match="holds a run already"):
        train(out=tmp_path / "straight", **run)
    with pytest.raises(InputError, match="of another model"):
        train(out=tmp_path / "straight", resume=True, **{**run, "overrides": (*TINY, CLIPS, "architecture.d_model=48")})


def test_a_divergence_names_step_seed_and_volumes_and_keeps_the_checkpoint(tmp_path):
    trainer = tiny_trainer(tmp_path, CLIPS, "seed=3", "checkpoint_every=1", "phases.0.lr=1e30", "phases.0.warmup=0")
    with pytest.raises(DivergedError, match=r"not finite at phase 1 \(phases.0\), step 1, seed 3, .*seeds 3000000001;"):
        trainer.run()
    kept = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert kept["step"] == 1


def test_a_divergence_names_the_volume_that_caused_it(tmp_path, monkeypatch):
    trainer = tiny_trainer(tmp_path, CLIPS, "phases.0.volumes=3", "phases.0.cuts=2")
    from synthfm_train.sam2 import rollout

    whole = rollout.mask_loss

    def poisoned(*arguments):
        scored = whole(*arguments)
        return scored._replace(total=scored.total * torch.tensor([1, 1, 1, torch.nan, 1, 1]))

    monkeypatch.setattr(rollout, "mask_loss", poisoned)
    with pytest.raises(DivergedError, match="on the volumes of seeds 1;"):
        trainer.run()


def test_an_infinite_gradient_stops_before_the_update(tmp_path):
    trainer = tiny_trainer(tmp_path, CLIPS)
    before = {name: value.clone() for name, value in trainer.objective.model.state_dict().items()}
    trainer.objective.model.no_mem_embed.register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(DivergedError, match="gradient of the loss is not finite at phase 1"):
        trainer.run()
    assert all(torch.equal(value, before[name]) for name, value in trainer.objective.model.state_dict().items())


@pytest.mark.parametrize(
    ("change", "present", "absent"),
    [
        ("boxes=1.0", {"dice_box", "tracked"}, {"dice1"}),
        ("masks=1.0", {"tracked"}, {"dice1", "dice_box", "dice_last"}),
        ("images=1.0", {"dice1"}, {"tracked"}),
    ],
)
def test_prompts_of_every_kind_train(tmp_path, change, present, absent):
    trainer = tiny_trainer(tmp_path, CLIPS, f"phases.0.{change}", "phases.0.steps=1")
    trainer.run()
    logged = rows(tmp_path)[0].keys()
    assert present <= logged
    assert not absent & logged


def test_bfloat16_gives_nearly_the_gradient_of_float32(monkeypatch):
    monkeypatch.setattr("synthfm_env.segmenters.cpu_arithmetic.cpu_has_bfloat16", lambda: True)
    gradients = []
    for precision in ("float32", "bfloat16"):
        objective = tiny_objective(IMAGES, f"precision={precision}")
        objective.begin(0, 0, objective.model)
        objective.loss(0, 0).total.backward()
        parameters = list(objective.model.parameters())
        assert all(p.dtype == torch.float32 for p in parameters)
        gradients.append(torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]))
    likeness = torch.nn.functional.cosine_similarity(*gradients, dim=0)
    assert 0.99 < likeness < 1 - 1e-7


def test_a_recipe_of_2d_images_trains_and_is_validated_on_them(tmp_path):
    trainer = tiny_trainer(tmp_path, IMAGES, "data.shape=[1,32,32]", "data.recipe=synthfm2d", "loss=dice")
    assert trainer.run().exists()
    assert "val_tracked" not in rows(tmp_path)[-1]


def test_a_phase_draws_and_is_validated_on_volumes_of_its_own_shape(tmp_path):
    phases = (
        "phases=[{steps=1,volumes=1,cuts=1,objects=1,clicks=1},"
        "{steps=1,volumes=1,cuts=1,objects=1,clicks=1,shape=[1,32,32]}]"
    )
    trainer = tiny_trainer(tmp_path, phases, "evaluate_every=1")
    trainer.run()
    first, second = (row for row in rows(tmp_path) if "val_dice1" in row)
    assert "val_tracked" in first
    assert "val_tracked" not in second
