"""The eight ways to lay a slice: pixels, clicks and answers must go there and back together."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from synthfm_env.segmenters.sam2.multiview.orientation import ALL_TURNS, AS_IT_IS, Turn

turns = st.sampled_from(ALL_TURNS)
sides = st.integers(1, 7)


@given(turns, sides, sides, st.booleans())
def test_a_pixel_lies_where_its_place_says_and_comes_back(turn: Turn, height: int, width: int, colour: bool) -> None:
    stack = np.arange(2 * height * width, dtype=np.uint8).reshape(2, height, width)
    laid = turn.lay(np.stack([stack] * 3, -1) if colour else stack)
    assert laid.flags.c_contiguous
    laid = laid[..., 0] if colour else laid
    for y, x in np.ndindex(height, width):
        assert laid[1][turn.place(y, x, (height, width))] == stack[1, y, x]
    np.testing.assert_array_equal(turn.back(torch.from_numpy(laid)).numpy(), stack)


def test_the_eight_are_different_and_one_changes_nothing() -> None:
    stack = np.arange(9, dtype=np.uint8).reshape(1, 3, 3)
    assert len({turn.lay(stack).tobytes() for turn in ALL_TURNS}) == 8
    assert AS_IT_IS in ALL_TURNS
    np.testing.assert_array_equal(AS_IT_IS.lay(stack), stack)
