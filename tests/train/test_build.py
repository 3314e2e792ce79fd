"""Tests the initial model of a training, and that its weights can be loaded and trained further."""

import pytest
import torch
from tiny_training import CLIPS, tiny_objective

from synthfm_env import make_segmenter
from synthfm_env.errors import InputError
from synthfm_env.segmenters.sam2 import Architecture
from synthfm_train.run import train
from synthfm_train.sam2.build import architecture_of, start_model
from synthfm_train.sam2.recipe import load_recipe

SMALL_OFFICIAL = (
    "weights=random",
    "precision=float32",
    "data.shape=[8,32,32]",
    "data.recipe='clear'",
    "data.min_pixels=8",
    "validation_volumes=1",
    "phases=[{steps=2,image_size=64,volumes=1,cuts=1,slices=2,objects=1,clicks=2,corrections=1,lr=1e-4}]",
)


def test_the_architecture_is_that_of_the_weights_unless_stated(tmp_path):
    objective, weights = tiny_objective(CLIPS), tmp_path / "weights.safetensors"
    objective.write_weights(objective.model, weights, {})
    further = load_recipe("ablation-both", (f"weights={weights}",))
    assert architecture_of(further) == architecture_of(objective.recipe)
    model, _ = start_model(further)
    written = objective.model.state_dict()
    assert all(torch.equal(value, written[name].half().float()) for name, value in model.state_dict().items())
    assert architecture_of(load_recipe("synthfm3d-nano")) == Architecture()
    with pytest.raises(InputError, match="do not fit the model"):
        start_model(load_recipe("ablation-both", (f"weights={weights}", "architecture.d_model=64")))
    with pytest.raises(InputError, match="do not exist"):
        start_model(load_recipe("ablation-both", (f"weights={tmp_path / 'gone.safetensors'}",)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["synthfm3d-hiera-tiny", "synthfm2d"])
def test_the_official_recipes_start_and_step_with_random_weights(tmp_path, name):
    changes = SMALL_OFFICIAL if name != "synthfm2d" else (*SMALL_OFFICIAL, "data.shape=[1,32,32]", "phases.0.slices=1")
    weights = train(name, out=tmp_path, overrides=changes, device="cpu", workers=0)
    segmenter = make_segmenter(str(weights))
    assert segmenter.model.image_size == 64
    assert segmenter.model.multimask_output_in_sam  # three masks after the first click, as Meta's
    assert len(segmenter.model.memory_attention.layers) == 4
