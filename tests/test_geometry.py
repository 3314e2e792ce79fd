import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from synthfm_env.geometry import bounding_box, spread_indices

MASKS = arrays(bool, array_shapes(min_dims=1, max_dims=3, max_side=6))


@settings(max_examples=100, deadline=None)
@given(MASKS, st.integers(0, 3))
def test_a_bounding_box_holds_the_mask_and_its_margin_as_far_as_the_grid_goes(mask, margin):
    box = bounding_box(mask, margin)
    if not mask.any():
        assert box is None
        return
    places = np.argwhere(mask)
    for side, low, high, length in zip(box, places.min(0), places.max(0), mask.shape, strict=True):
        assert (side.start, side.stop) == (max(0, low - margin), min(length, high + 1 + margin))


@pytest.mark.parametrize(("length", "most"), [(1, 1), (7, 3), (10, 10), (5, 9), (1000, 13)])
def test_spread_indices_are_increasing_inside_and_symmetric(length, most):
    indices = spread_indices(length, most)
    assert len(indices) == min(length, most)
    assert (np.diff(indices) > 0).all()
    assert indices[0] >= 0
    assert indices[-1] < length
    gaps = np.diff(indices)
    assert gaps.size == 0 or gaps.max() - gaps.min() <= 1
