"""Low-rank updates, adapters, neighbouring slices and another trunk: what trains, what stays, and what is written."""

import pytest
import torch
from tiny_training import CLIPS, tiny_objective, tiny_trainer
from torch.nn.utils import parametrize

from synthfm_env import make_segmenter
from synthfm_env.errors import InputError
from synthfm_env.segmenters.sam2 import load_weights
from synthfm_env.segmenters.sam2.slice_context import SliceContext, context_of
from synthfm_train.sam2.lora import merged_state
from synthfm_train.sam2.recipe import load_recipe

FROZEN = "trains=memory+decoder"


@pytest.mark.parametrize(
    ("option", "part"), [("lora=2", "parametrizations.weight.0."), ("depth_adapter=4", "image_encoder.adapters.")]
)
def test_added_parts_train_while_the_encoders_own_weights_stay_equal(tmp_path, start, option, part):
    trainer = tiny_trainer(tmp_path, CLIPS, FROZEN, option, f"weights={start}", "weight_decay=0.5")
    model = trainer.objective.model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer.run()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    own = {name for name in before if name.startswith("image_encoder.") and part not in name}
    assert own
    assert not changed & own
    assert any(part in name for name in changed)
    frozen = [p for name, p in model.named_parameters() if name in own]
    assert all(p.grad is None and p not in trainer._optimizers[0].state for p in frozen)


def test_low_rank_updates_start_at_nothing(start):
    plain, updated = (
        tiny_objective(CLIPS, FROZEN, f"weights={start}", option).model for option in ("lora=0", "lora=2")
    )
    frames = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for a, b in zip(
        plain.forward_image(frames)["backbone_fpn"], updated.forward_image(frames)["backbone_fpn"], strict=True
    ):
        assert torch.equal(a, b)


def test_merged_low_rank_updates_give_equal_outputs_and_a_plain_sam2(tmp_path, start):
    trainer = tiny_trainer(tmp_path, CLIPS, FROZEN, "lora=2", f"weights={start}", "phases.0.lr=1e-2")
    path = trainer.run()
    updated = trainer.average.module
    frames = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = updated.forward_image(frames)["backbone_fpn"]
        plain = tiny_objective(CLIPS).model
        plain.load_state_dict(merged_state(updated))
        found = plain.forward_image(frames)["backbone_fpn"]
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    layer = updated.image_encoder.trunk.blocks[0].attn.qkv
    assert parametrize.is_parametrized(layer, "weight")  # the trained model still has its updates
    weight = layer.parametrizations.weight
    assert weight[0].up.any()
    by_hand = weight.original + weight[0].up @ weight[0].down
    loaded = load_weights(str(path))
    assert torch.allclose(loaded.image_encoder.trunk.blocks[0].attn.qkv.weight, by_hand.half().float(), atol=1e-6)
    assert loaded.state_dict().keys() == load_weights(str(start)).state_dict().keys()


@pytest.mark.parametrize("option", ["lora=2", "depth_adapter=4", "neighbours=true", "architecture.trunk=convolutional"])
def test_a_resumed_training_equals_one_that_was_never_stopped(tmp_path, option):
    options = (CLIPS, option, *((FROZEN,) if option.startswith("lora") else ()), "checkpoint_every=2")
    whole = tiny_trainer(tmp_path / "whole", *options)
    whole.run()
    stopped = tiny_trainer(tmp_path / "stopped", *options)
    step = stopped._step
    stopped._step = lambda *at: step(*at) if stopped.at.step < 2 else (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        stopped.run()
    resumed = tiny_trainer(tmp_path / "stopped", *options, resume=True)
    assert resumed.at.step == 2
    resumed.run()
    for name, value in whole.objective.model.state_dict().items():
        assert torch.equal(value, resumed.objective.model.state_dict()[name]), name


@pytest.mark.parametrize("option", ["depth_adapter=4", "neighbours=true"])
def test_weights_keep_their_context_into_use_and_into_further_training(tmp_path, option):
    path = tiny_trainer(tmp_path, CLIPS, option).run()
    context = context_of(make_segmenter(str(path)).model)
    assert context != SliceContext()
    further = tiny_objective(CLIPS, f"weights={path}")
    assert context_of(further.model) == context
    other = "depth_adapter=8" if option == "depth_adapter=4" else "depth_adapter=4"
    with pytest.raises(InputError, match="were trained with"):
        tiny_objective(CLIPS, f"weights={path}", other)


def test_a_convolutional_trunk_trains_and_loads(tmp_path):
    path = tiny_trainer(tmp_path, CLIPS, "architecture.trunk=convolutional").run()
    assert "convolutional" in make_segmenter(str(path)).model.image_encoder.trunk.__class__.__name__.lower()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("lora=2",), "frozen image encoder"),
        (("neighbours=true", "depth_adapter=4"), "exclude each other"),
        (("depth_adapter=5000",), "depth_adapter"),
        (("architecture.trunk=resnet",), "trunk"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        load_recipe("synthfm3d-nano", options)


def test_low_rank_updates_need_attention():
    with pytest.raises(InputError, match="does not have"):
        tiny_objective(CLIPS, FROZEN, "lora=2", "architecture.trunk=convolutional")
