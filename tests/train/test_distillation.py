"""Tests a new trunk that learns the maps of the old one."""

import pytest
import torch
from tiny_training import tiny_objective, tiny_trainer

from synthfm_env import make_segmenter
from synthfm_env.errors import InputError
from synthfm_train.sam2.distillation import distillation_loss
from synthfm_train.sam2.recipe import load_recipe

CONVOLUTIONAL = "architecture.trunk='convolutional'"
DISTILL = "phases=[{kind='distill',steps=30,volumes=1,cuts=4,lr=3e-3,warmup=2}]"
TRUNK = "image_encoder.trunk."


def test_a_new_trunk_replaces_that_of_the_weights_and_all_else_is_kept(start):
    weights = tiny_objective(f"weights={start}").model.state_dict()
    renewed = tiny_objective(f"weights={start}", CONVOLUTIONAL).model.state_dict()
    assert any(name.startswith(f"{TRUNK}stages.") for name in renewed)
    kept = [name for name in weights if not name.startswith(TRUNK)]
    assert len(kept) > 100
    assert all(torch.equal(renewed[name], weights[name]) for name in kept)


def test_another_width_is_still_refused(start):
    with pytest.raises(InputError, match="do not fit the model"):
        tiny_objective(f"weights={start}", CONVOLUTIONAL, "architecture.embed_dim=24")


def test_distillation_brings_the_maps_nearer_and_trains_the_encoder_alone(tmp_path, start):
    teacher = make_segmenter(str(start)).model
    frames = torch.randn(2, 1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    trainer = tiny_trainer(tmp_path, f"weights={start}", CONVOLUTIONAL, DISTILL)
    model = trainer.objective.model
    assert distillation_loss(teacher, teacher, frames) == 0
    with torch.no_grad():
        before = float(distillation_loss(model, teacher, frames))
    others = {n: v.clone() for n, v in model.state_dict().items() if not n.startswith(("image_encoder.", "sam_mask"))}
    trainer.run()
    with torch.no_grad():
        after = float(distillation_loss(model, teacher, frames))
    assert after < 0.8 * before
    assert all(torch.equal(model.state_dict()[name], value) for name, value in others.items())
    make_segmenter(str(tmp_path / "weights.safetensors"))  # its header names the new trunk


@pytest.mark.parametrize("change", ["weights=random", "trains='memory+decoder'"])
def test_a_distill_phase_needs_a_teacher_and_an_encoder_that_trains(start, change):
    with pytest.raises(InputError, match="distill"):
        load_recipe("synthfm3d-nano", (f"weights={start}", DISTILL, change))
