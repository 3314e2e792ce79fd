"""Tests which of the answers to a first click is kept."""

import numpy as np
import pytest
import torch

from synthfm_env import Click
from synthfm_env.metrics import dice
from synthfm_env.segmenters.first_crop import centrality, expected_dice, overlap_with_region, size_bonus
from synthfm_env.segmenters.focus import whole_crop

MM = (1.0, 1.0, 1.0)


def disc(radius, shape=(1, 41, 41)):
    y, x = np.indices(shape[1:]) - 20
    return np.broadcast_to(y**2 + x**2 <= radius**2, shape)


def test_the_middle_is_as_central_as_can_be_and_the_rim_is_not():
    mask, crop = disc(12), whole_crop((1, 41, 41))
    assert centrality(mask, crop, Click((0, 20, 20)), MM) == 1
    assert centrality(mask, crop, Click((0, 20, 31)), MM) < 0.2
    assert centrality(mask, crop, Click((0, 20, 35)), MM) == 0
    assert centrality(mask, crop, Click((0, 0, 0)), MM) == 0


def test_an_empty_mask_has_no_middle():
    assert centrality(np.zeros((1, 8, 8), bool), whole_crop((1, 8, 8)), Click((0, 4, 4)), MM) == 0


def test_a_mask_on_another_grid_has_the_same_middle():
    mask = disc(12)[:, ::2, ::4]
    crop = (slice(0, 1), slice(100, 141), slice(200, 241))
    assert centrality(mask, crop, Click((0, 120, 220)), MM) > 0.9
    assert centrality(mask, crop, Click((0, 120, 231)), MM) < 0.3


def test_depths_are_measured_in_mm():
    mask, crop, click = disc(12), whole_crop((1, 41, 41)), Click((0, 29, 20))
    assert centrality(mask, crop, click, (1.0, 5.0, 1.0)) > 2 * centrality(mask, crop, click, MM)


@pytest.mark.parametrize("shape", [(1, 80, 80), (80, 80, 80), (1, 1, 80), (1, 1, 1)])
def test_a_crop_of_half_the_sides_costs_the_same_in_any_number_of_dimensions(shape):
    half = tuple(slice(0, max(1, n // 2)) for n in shape)
    assert size_bonus(whole_crop(shape), shape) == 0
    assert size_bonus(half, shape) == pytest.approx(-0.03 if max(shape) > 1 else 0)


def test_a_sure_mask_expects_more_of_itself_than_a_doubtful_one():
    sure, doubtful = torch.zeros(1, 20, 20), torch.full((1, 20, 20), 0.3)
    sure[:, 5:15, 5:15], doubtful[:, 5:15, 5:15] = 1.0, 0.6
    assert expected_dice(sure) == 1
    assert 0.3 < expected_dice(doubtful) < 0.5
    assert expected_dice(torch.zeros(1, 4, 4)) == 0


def test_overlap_with_a_region_is_the_dice_on_the_whole_image():
    region, mask = np.zeros((1, 60, 60), bool), np.zeros((1, 60, 60), bool)
    region[:, 10:40, 10:50], mask[:, 20:50, 30:50] = True, True
    crop = (slice(0, 1), slice(12, 52), slice(20, 60))  # the region goes beyond it, the mask does not
    coarse = (slice(None), slice(0, None, 2), slice(0, None, 2))
    for grid in ((slice(None),) * 3, coarse):
        assert overlap_with_region(mask[crop][grid], region[crop][grid], crop, region.sum()) == pytest.approx(
            dice(mask, region)
        )
    assert overlap_with_region(np.zeros((1, 8, 8), bool), np.zeros((1, 8, 8), bool), crop, 0.0) == 0
