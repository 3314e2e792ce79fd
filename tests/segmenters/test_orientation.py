"""Tests that pixels, clicks and masks are oriented in the same way, and back."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from synthfm_env.segmenters.sam2.multiview.orientation import ALL_ORIENTATIONS, IDENTITY, Orientation

orientations = st.sampled_from(ALL_ORIENTATIONS)
sides = st.integers(1, 7)


@given(orientations, sides, sides, st.booleans())
def test_a_pixel_moves_where_its_place_moves_and_comes_back(
    orientation: Orientation, height: int, width: int, colour: bool
) -> None:
    stack = np.arange(2 * height * width, dtype=np.uint8).reshape(2, height, width)
    moved = orientation.apply(np.stack([stack] * 3, -1) if colour else stack)
    assert moved.flags.c_contiguous
    moved = moved[..., 0] if colour else moved
    for y, x in np.ndindex(height, width):
        assert moved[1][orientation.apply_to_pixel(y, x, (height, width))] == stack[1, y, x]
    np.testing.assert_array_equal(orientation.invert(torch.from_numpy(moved)).numpy(), stack)


def test_the_eight_are_different_and_one_changes_nothing() -> None:
    stack = np.arange(9, dtype=np.uint8).reshape(1, 3, 3)
    assert len({orientation.apply(stack).tobytes() for orientation in ALL_ORIENTATIONS}) == 8
    assert IDENTITY in ALL_ORIENTATIONS
    np.testing.assert_array_equal(IDENTITY.apply(stack), stack)
