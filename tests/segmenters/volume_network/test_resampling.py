"""Tests resampling by matrices against torch's interpolation, and its properties."""

import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from synthfm_env.segmenters.volume_network.resampling import axis_weights, carry_over, resample

LENGTHS = st.integers(1, 40)


@given(LENGTHS, LENGTHS)
def test_weights_of_each_output_sum_to_one(source, target):
    torch.testing.assert_close(axis_weights(source, target).sum(1), torch.ones(target))


def test_growing_is_trilinear_interpolation():
    values = torch.rand(6, 7, 5, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(values[None, None], (13, 20, 9), mode="trilinear")[0, 0]
    torch.testing.assert_close(resample(values, (13, 20, 9)), expected)


def test_shrinking_by_whole_factors_is_a_block_mean():
    values = torch.rand(2, 8, 6, 9, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(resample(values, (4, 3, 3)), F.avg_pool3d(values, (2, 2, 3)))


@given(LENGTHS, st.integers(1, 20))
def test_shrinking_keeps_the_mean(source, target):
    if target > source:
        return
    values = torch.rand(1, 1, source, generator=torch.Generator().manual_seed(source))
    torch.testing.assert_close(resample(values, (1, 1, target)).mean(), values.mean())


def test_logits_carried_to_a_part_of_the_crop_are_those_of_the_part():
    values = torch.rand(8, 8, 8, generator=torch.Generator().manual_seed(0))
    old, new = (slice(0, 8),) * 3, (slice(2, 6),) * 3
    torch.testing.assert_close(carry_over(values, old, new, (4, 4, 4), -9.0), values[2:6, 2:6, 2:6])


def test_voxels_that_the_old_crop_did_not_hold_get_the_far_logit():
    carried = carry_over(
        torch.ones(4, 4, 4), (slice(0, 4),) * 3, (slice(0, 8), slice(0, 4), slice(0, 4)), (8, 4, 4), -9.0
    )
    assert carried[:4].eq(1).all()
    assert carried[5:].eq(-9).all()
