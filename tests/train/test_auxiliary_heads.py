"""The heads of SAM2-3dMed: losses against values computed by hand and by NumPy, and what their gradients reach."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from tiny_training import CLIPS, tiny_objective, tiny_trainer

from synthfm_env.errors import InputError
from synthfm_env.segmenters.sam2 import load_weights
from synthfm_train.sam2.boundary import BoundaryHead, boundary_cells, boundary_loss
from synthfm_train.sam2.recipe import load_recipe
from synthfm_train.sam2.relative_position import RelativePositionHead, relative_position_loss

BOTH = (
    "phases=[{steps=2,volumes=1,cuts=1,slices=3,objects=1,clicks=2,corrections=1,relative_position=0.01,boundary=0.1}]"
)


def test_relative_position_loss_is_the_hand_computed_one():
    predicted = torch.tensor([[[9.0, 1.5, 2.0], [-1.0, 9.0, 0.0], [-2.0, 1.0, 9.0]]])
    # Truth 1, 2, -1, 1, -2, -1 off the diagonal: errors 0.5, 0, 0, 1, 0, 2.
    assert relative_position_loss(predicted).item() == pytest.approx((0.25 + 1 + 4) / 6)


@pytest.mark.parametrize("length", [2, 3, 6, 12])
def test_the_answer_zero_has_the_chance_level_that_is_documented(length):
    chance = relative_position_loss(torch.zeros(2, length, length)).item()
    assert chance == pytest.approx(length * (length + 1) / 6)
    offsets = [(j - i) ** 2 for i in range(length) for j in range(length) if i != j]
    assert chance == pytest.approx(np.mean(offsets))


def test_predicted_offsets_depend_on_the_pair_and_its_order_alone():
    torch.manual_seed(0)
    head = RelativePositionHead(8)
    slices = torch.randn(2, 4, 8, 6, 6)
    predicted = head(slices)
    assert predicted.shape == (2, 4, 4)
    order = [2, 0, 3, 1]
    assert torch.allclose(head(slices[:, order]), predicted[:, order][:, :, order], atol=1e-6)
    alone = head(slices[1:, [3, 0]])[0, 0, 1]
    assert torch.allclose(alone, predicted[1, 3, 0], atol=1e-6)
    assert not torch.allclose(predicted[0, 1, 2], predicted[0, 2, 1])


def test_offsets_of_unseen_slices_are_learned_where_slices_tell_their_place():
    """Slices of a ramp with noise: the head fits some and is tested on others."""
    torch.manual_seed(1)

    def clips(count):
        start, step = torch.rand(count, 1), torch.full((count, 1), 0.3)
        height = start + step * torch.arange(4)
        return height[..., None, None, None].expand(-1, -1, 3, 4, 4) + 0.02 * torch.randn(count, 4, 3, 4, 4)

    head = RelativePositionHead(3)
    optimizer = torch.optim.Adam(head.parameters(), lr=3e-3)
    for _ in range(200):
        optimizer.zero_grad()
        relative_position_loss(head(clips(16))).backward()
        optimizer.step()
    assert relative_position_loss(head(clips(64))).item() < 0.1 * 4 * 5 / 6


def test_boundary_cells_are_those_that_scipy_finds():
    rng = np.random.default_rng(2)
    masks = ndimage.gaussian_filter(rng.normal(size=(5, 32, 32)), (0, 3, 3)) > 0.02
    eroded = np.stack([ndimage.binary_erosion(mask, np.ones((3, 3)), border_value=1) for mask in masks])
    expected = (masks & ~eroded).reshape(5, 8, 4, 8, 4).any((2, 4))
    assert np.array_equal(boundary_cells(torch.from_numpy(masks)).numpy(), expected)
    assert not boundary_cells(torch.ones(1, 8, 8, dtype=torch.bool)).any()  # the image's edge is no boundary
    assert not boundary_cells(torch.zeros(1, 8, 8, dtype=torch.bool)).any()


def test_boundary_loss_is_the_papers_sum_over_its_number_of_boundary_pixels():
    rng = np.random.default_rng(3)
    logits, on = rng.normal(size=(4, 6, 6)), rng.random((4, 6, 6)) < 0.2
    on[2] = False  # no boundary: the paper's sum is 0
    published = []
    for x, y in zip(logits, on, strict=True):
        entropy = np.logaddexp(0, -x) * y + np.logaddexp(0, x) * ~y
        count, others = y.sum(), (~y).sum()
        total = others / y.size * entropy[y].sum() + count / y.size * entropy[~y].sum()
        published.append(total / (count * others / y.size) if count else total)
    found = boundary_loss(torch.from_numpy(logits), torch.from_numpy(on)).item()
    assert found == pytest.approx(np.mean(published), rel=1e-6)


def test_a_flat_guess_of_a_boundary_costs_two_logarithms_of_two_whatever_its_length():
    for count in (1, 10):
        on = torch.zeros(1, 8, 8, dtype=torch.bool)
        on.view(-1)[:count] = True
        assert boundary_loss(torch.zeros(1, 8, 8), on).item() == pytest.approx(2 * math.log(2))


def test_boundary_attention_is_the_published_formula():
    torch.manual_seed(4)
    head = BoundaryHead(6, 4, width=8)
    conditioned, own, fine = torch.randn(2, 6, 3, 3), torch.randn(2, 6, 3, 3), torch.randn(2, 4, 12, 12)
    features = head.boundary(conditioned)
    q = head.query(features.flatten(2).transpose(1, 2))
    k, v = (layer(own.flatten(2).transpose(1, 2)) for layer in (head.key, head.value))
    attended = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(8), -1) @ v
    fused = features + attended.transpose(1, 2).reshape(features.shape)
    enlarged = torch.nn.functional.interpolate(fused, scale_factor=4, mode="bilinear")
    expected = head.out(torch.nn.functional.gelu(enlarged + head.fine(fine)))[:, 0]
    assert torch.allclose(head(conditioned, own, fine), expected, atol=1e-5)


def gradients(name, trains):
    """Return the gradients of one auxiliary loss by parameter, of a clip's rollout."""
    objective = tiny_objective(BOTH, f"trains={trains}")
    objective.begin(0, 0, objective.model)
    batch = next(objective._batches)
    terms = {}
    auxiliary = objective._losses._auxiliary

    def kept(*arguments):
        for term in auxiliary(*arguments):
            terms[term[0]] = term[2]
            yield term

    objective._losses._auxiliary = kept
    objective._losses.loss(objective.recipe.phases[0], batch, torch.Generator().manual_seed(0))
    terms[name].backward()
    return {key: p.grad for key, p in objective.model.named_parameters() if p.grad is not None and p.grad.any()}


def test_boundary_detection_teaches_memory_attention_also_with_a_frozen_encoder():
    reached = gradients("boundary", "memory+decoder")
    assert any(name.startswith("memory_attention.") for name in reached)
    assert not any(name.startswith("image_encoder.") for name in reached)


def test_relative_positions_teach_the_encoder_and_with_a_frozen_one_nothing_of_the_segmenter():
    assert all(name.startswith("image_encoder.") for name in gradients("relative_position", "all"))
    assert gradients("relative_position", "all")
    assert not gradients("relative_position", "memory+decoder")


def test_relative_positions_leave_the_training_of_a_frozen_encoders_segmenter_bit_for_bit_as_it_was(tmp_path):
    states = []
    for weight in ("0.0", "0.5"):
        phases = BOTH.replace("relative_position=0.01", f"relative_position={weight}")
        trainer = tiny_trainer(tmp_path / weight, phases, "trains=memory+decoder")
        trainer.run()
        states.append(trainer.objective.model.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_weights_hold_no_head_and_load_strictly(tmp_path):
    trainer = tiny_trainer(tmp_path, BOTH)
    path = trainer.run()
    names = set(load_weights(str(path)).state_dict())
    assert names == set(trainer.objective.model.state_dict())
    assert {name.split(".")[0] for name in trainer.objective.state()["heads"]} == {
        "dense",
        "relative_position",
        "boundary",
    }


def test_heads_do_not_move_the_start_of_a_training():
    plain, both = tiny_objective(CLIPS), tiny_objective(BOTH)
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, both.model.state_dict()[name])
    assert torch.equal(plain.heads.dense.levels[0].weight, both.heads.dense.levels[0].weight)
    assert plain.heads.relative_position is None
    assert plain.heads.boundary is None


def test_a_checkpoint_gives_the_heads_back(tmp_path):
    first = tiny_trainer(tmp_path, BOTH)
    first.run()
    second = tiny_trainer(tmp_path, BOTH, resume=True)
    for name, value in first.objective.heads.state_dict().items():
        assert torch.equal(value, second.objective.heads.state_dict()[name])


@pytest.mark.parametrize("change", ["slices=1", "slices=3,kind='dense'"])
def test_auxiliary_losses_without_clips_are_refused(change):
    phases = f"phases=[{{steps=1,boundary=0.1,{change}}}]"
    with pytest.raises(InputError, match="slices to 2 or more"):
        load_recipe("synthfm3d-nano", (phases,))
