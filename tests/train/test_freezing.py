"""Tests the parameters that each scheme trains; all others keep their bytes."""

import pytest
import torch
from tiny_training import CLIPS, tiny_objective, tiny_trainer

from synthfm_train.sam2.rollout import encode_slices

FROZEN = {
    "decoder-from-scratch": lambda name: not name.startswith(("sam_mask_decoder.", "obj_ptr_proj.")),
    "memory+decoder": lambda name: name.startswith(("image_encoder.", "sam_prompt_encoder.")),
}


@pytest.mark.parametrize("trains", FROZEN)
def test_frozen_parts_keep_their_bytes_and_have_no_gradient_or_state(tmp_path, start, trains):
    trainer = tiny_trainer(tmp_path, CLIPS, f"trains={trains}", f"weights={start}", "weight_decay=0.5")
    before = {name: value.clone() for name, value in trainer.objective.model.state_dict().items()}
    trainer.run()
    frozen = FROZEN[trains]
    changed = {
        name for name, value in trainer.objective.model.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed
    assert not [name for name in changed if frozen(name)]
    averaged = trainer.average.module.state_dict()
    assert all(torch.equal(averaged[name], before[name]) for name in before if frozen(name))
    parameters = dict(trainer.objective.model.named_parameters())
    assert all(p.grad is None and p not in trainer._optimizers[0].state for n, p in parameters.items() if frozen(n))
    assert any(n in changed for n in parameters if n.startswith("memory_attention.")) == (trains == "memory+decoder")
    assert any(n in changed for n in parameters if n.startswith("sam_mask_decoder."))


def test_a_frozen_encoder_keeps_nothing_for_a_backward_pass():
    for trains, follows in (("memory+decoder", [True, True, False]), ("all", [True, True, True])):
        model = tiny_objective(CLIPS, f"trains={trains}").model
        maps, position = encode_slices(model, torch.zeros(2, 3, 32, 32))
        # The first two pass through the decoder's own projections, which train.
        assert [level.requires_grad for level in maps] == follows
        known = model.forward_image(torch.zeros(2, 3, 32, 32))
        assert all(torch.equal(a, b) for a, b in zip(maps, known["backbone_fpn"], strict=True))
        assert torch.equal(position, known["vision_pos_enc"][-1])


def test_only_the_decoder_is_new_from_scratch(start):
    kept = tiny_objective(CLIPS, "trains=memory+decoder", f"weights={start}", "seed=5").model.state_dict()
    new = tiny_objective(CLIPS, "trains=decoder-from-scratch", f"weights={start}", "seed=5").model
    differs = {name for name, value in new.state_dict().items() if not torch.equal(value, kept[name])}
    assert "sam_mask_decoder.transformer.layers.0.mlp.layers.0.weight" in differs
    assert "obj_ptr_proj.layers.0.weight" in differs
    assert not [name for name in differs if FROZEN["decoder-from-scratch"](name)]
