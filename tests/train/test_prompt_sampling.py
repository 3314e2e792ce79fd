"""Tests training prompts: clicks on an error with the truth's sign, and noisy boxes."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from synthfm_train.sam2.prompt_sampling import correction, noisy_box

H = W = 12


def masks(seed: int, share: float, n: int = 6) -> torch.Tensor:
    return torch.rand((n, H, W), generator=torch.Generator().manual_seed(seed)) < share


def clicked(mask: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    x, y = points[:, 0].long().T
    return mask[torch.arange(len(mask)), y, x]


@given(st.integers(0, 2**31), st.floats(0.05, 0.9), st.floats(0.05, 0.9))
def test_a_click_has_the_sign_of_the_truth_where_it_falls(seed, share_predicted, share_truth):
    predicted, truth = masks(seed, share_predicted), masks(seed + 1, share_truth)
    points, labels = correction(predicted, truth, torch.Generator().manual_seed(seed))
    assert points.shape == (6, 1, 2)
    assert torch.equal(clicked(truth, points), labels[:, 0].bool())


def test_most_clicks_fall_on_the_error():
    truth = masks(0, 0.5, n=2000)
    predicted = masks(1, 0.5, n=2000)
    points, _ = correction(predicted, truth, torch.Generator().manual_seed(0))
    on_error = clicked(predicted != truth, points).float().mean()
    assert 0.9 < on_error < 0.99  # a tenth is drawn from the truth, half of it right by chance


def test_without_error_the_click_confirms():
    truth = torch.zeros(2, H, W, dtype=torch.bool)
    truth[0, 3:7, 2:9] = True
    points, labels = correction(truth.clone(), truth, torch.Generator().manual_seed(0))
    assert labels[:, 0].tolist() == [1, 0]
    assert clicked(truth, points).tolist() == [True, False]


def test_the_first_click_is_a_positive_one_inside():
    truth = masks(3, 0.2)
    points, labels = correction(torch.zeros_like(truth), truth, torch.Generator().manual_seed(5))
    assert labels.all()
    assert clicked(truth, points).all()


def test_first_clicks_reach_every_part_of_an_object():
    truth = torch.zeros(4000, H, W, dtype=torch.bool)
    truth[:, 2:4, 3:9] = True
    generator = torch.Generator().manual_seed(1)
    points = torch.cat([correction(torch.zeros_like(truth), truth, generator)[0] for _ in range(8)])[:, 0].long()
    count = torch.bincount(points[:, 1] * W + points[:, 0], minlength=H * W).view(H, W)
    assert (count[2:4, 3:9] > 300).all()
    assert count.sum() == count[2:4, 3:9].sum()


@given(st.integers(0, 2**31), st.integers(0, 40), st.integers(0, 40), st.integers(1, 24), st.integers(1, 24))
def test_a_noisy_box_strays_by_a_tenth_and_stays_inside(seed, top, left, height, width):
    truth = torch.zeros(1, 64, 64, dtype=torch.bool)
    truth[0, top : top + height, left : left + width] = True
    points, labels = noisy_box(truth, torch.Generator().manual_seed(seed))
    assert labels.tolist() == [[2, 3]]
    assert ((points >= 0) & (points <= 63)).all()
    tight = torch.tensor([[left, top], [left + width - 1, top + height - 1]])
    assert ((points[0] - tight).abs() <= torch.tensor([width - 1, height - 1]) * 0.1 + 1e-4).all()


def test_boxes_are_noisy():
    truth = torch.zeros(50, 64, 64, dtype=torch.bool)
    truth[:, 10:50, 20:40] = True
    points, _ = noisy_box(truth, torch.Generator().manual_seed(0))
    assert (points.std(0) > 0.5).all()
