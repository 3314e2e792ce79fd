"""Tests the focus policy with numpy masks and no model."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthfm_env import Click
from synthfm_env.segmenters.focus import FocusPolicy, covered_extent, crop_voxels, whole_crop

POLICY = FocusPolicy()


def mask_of(shape, *box):
    mask = np.zeros(shape, dtype=bool)
    mask[box] = True
    return mask


@given(
    st.tuples(*[st.integers(1, 90)] * 3),
    st.tuples(*[st.floats(0, 0.999)] * 3),
    st.tuples(*[st.floats(0.2, 8)] * 3),
)
def test_first_crops_hold_the_click_grow_and_end_with_the_whole_image(shape, place, spacing):
    click = Click(tuple(int(n * at) for n, at in zip(shape, place, strict=True)))
    crops = POLICY.first_crops(click, shape, spacing)
    assert crops[-1] == whole_crop(shape)
    assert [crop_voxels(crop) for crop in crops] == sorted(crop_voxels(crop) for crop in crops)
    for crop in crops:
        assert all(0 <= s.start <= at < s.stop <= n for s, at, n in zip(crop, click.zyx, shape, strict=True))


def test_first_crops_have_equal_sides_in_mm():
    first = POLICY.first_crops(Click((50, 250, 250)), (100, 500, 500), (6.0, 1.0, 1.0))[0]
    assert [side.stop - side.start for side in first] == [4, 24, 24]


def test_a_mask_with_room_around_it_keeps_its_crop():
    crop = (slice(10, 50),) * 3
    mask = mask_of((40, 40, 40), slice(8, 32), slice(8, 32), slice(8, 32))
    assert POLICY.proposal(crop, mask, [Click((30, 30, 30))], (100, 100, 100)) is None


def test_a_mask_that_meets_a_side_widens_the_crop_there():
    crop = (slice(10, 50),) * 3
    mask = mask_of((40, 40, 40), slice(8, 32), slice(8, 32), slice(20, 40))
    grown = POLICY.proposal(crop, mask, [Click((30, 30, 30))], (100, 100, 100))
    assert grown is not None
    assert grown[2].stop > 50


def test_a_mask_that_meets_the_border_of_the_image_does_not_widen_the_crop():
    crop = (slice(0, 40),) * 3
    mask = mask_of((40, 40, 40), slice(0, 32), slice(0, 32), slice(0, 32))
    assert POLICY.proposal(crop, mask, [Click((3, 3, 3))], (100, 100, 100)) is None


def test_a_small_mask_narrows_the_crop_to_itself_and_its_margin():
    crop = (slice(0, 80),) * 3
    mask = mask_of((40, 40, 40), slice(10, 20), slice(10, 20), slice(10, 20))
    fitted = POLICY.proposal(crop, mask, [Click((25, 25, 25))], (80, 80, 80))
    assert fitted == (slice(12, 48),) * 3


def test_a_proposal_holds_every_positive_click():
    crop = (slice(0, 40),) * 3
    mask = mask_of((40, 40, 40), slice(10, 20), slice(10, 20), slice(10, 20))
    fitted = POLICY.proposal(crop, mask, [Click((15, 15, 15)), Click((70, 15, 15))], (80, 80, 80))
    assert fitted is not None
    assert fitted[0].start <= 15
    assert fitted[0].stop > 70


def test_no_mask_and_no_positive_click_propose_nothing():
    crop = whole_crop((20, 20, 20))
    empty = np.zeros((20, 20, 20), dtype=bool)
    assert POLICY.proposal(crop, empty, [Click((3, 3, 3), positive=False)], (20, 20, 20)) is None


@pytest.mark.parametrize("grid", [(10, 10, 10), (40, 40, 40)])
def test_extent_covers_the_mask_in_voxels_of_the_image(grid):
    mask = np.zeros(grid, dtype=bool)
    part = tuple(slice(n // 2, n * 7 // 10) for n in grid)
    mask[part] = True
    assert covered_extent((slice(100, 140),) * 3, mask, []) == [(120, 128)] * 3
