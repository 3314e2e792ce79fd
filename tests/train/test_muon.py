"""Tests Muon in float32: like torch's in bfloat16, and orthogonal as the paper states."""

import pytest
import torch

from synthfm_train.volume_network.muon import Float32Muon, orthogonalised

COEFFICIENTS = (3.4445, -4.775, 2.0315)


def kernel(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def stepped(optimizer_class, gradients):
    parameter = torch.nn.Parameter(kernel(gradients[0].shape))
    optimizer = optimizer_class(
        [parameter], lr=0.02, weight_decay=0.01, momentum=0.95, adjust_lr_fn="match_rms_adamw"
    )  # fmt: skip
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
    return parameter.detach(), optimizer


@pytest.mark.parametrize("shape", [(8, 40), (40, 8), (16, 16)])
def test_it_takes_the_steps_of_torch_up_to_the_rounding_of_bfloat16(shape):
    gradients = [kernel(shape, seed) for seed in (1, 2, 3)]
    ours, _ = stepped(Float32Muon, gradients)
    torchs, _ = stepped(torch.optim.Muon, gradients)
    moved = (torchs - kernel(shape)).norm()
    assert (ours - torchs).norm() < 0.05 * moved


def test_its_state_goes_on_in_torch():
    _, optimizer = stepped(Float32Muon, [kernel((8, 40), 1)])
    other = torch.optim.Muon([torch.nn.Parameter(kernel((8, 40)))])
    other.load_state_dict(optimizer.state_dict())
    [state] = other.state.values()
    [ours] = optimizer.state.values()
    assert torch.equal(state["momentum_buffer"], ours["momentum_buffer"])
    assert other.param_groups[0]["lr"] == 0.02


@pytest.mark.parametrize("shape", [(24, 60), (60, 24)])
def test_singular_values_become_about_one(shape):
    values = torch.linalg.svdvals(orthogonalised(kernel(shape), COEFFICIENTS, 5, 1e-7))
    assert values.min() > 0.6
    assert values.max() < 1.3


def test_a_gradient_of_zeros_moves_nothing_but_the_decay():
    parameter, _ = stepped(Float32Muon, [torch.zeros(8, 16)])
    torch.testing.assert_close(parameter, kernel((8, 16)) * (1 - 0.02 * 0.01))


def test_a_parameter_without_gradient_is_left_alone():
    parameter = torch.nn.Parameter(kernel((8, 16)))
    Float32Muon([parameter]).step()
    assert torch.equal(parameter, kernel((8, 16)))
