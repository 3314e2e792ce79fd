"""Tests the block grid of large volumes."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from synthfm_env.segmenters.block_grid import BlockGrid

shapes = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9))
spacings = st.tuples(st.floats(0.1, 10), st.floats(0.1, 10), st.floats(0.1, 10))


@given(shapes, spacings, st.integers(1, 800))
def test_the_cap_holds_and_blocks_cover_the_image(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], cap: int
) -> None:
    grid = BlockGrid(shape, spacing, cap)
    assert np.prod(grid.shape) <= cap
    if np.prod(shape) <= cap:
        assert grid.shape == shape
    assert all(0 <= n * size - length < size for n, size, length in zip(grid.shape, grid.sizes, shape, strict=True))
    last = tuple(n - 1 for n in shape)
    assert grid.block_of(last) == tuple(n - 1 for n in grid.shape)


def test_the_finest_axes_are_coarsened_first() -> None:
    assert BlockGrid((20, 100, 100), (5.0, 1.0, 1.0), 20 * 50 * 50).sizes == (1, 2, 2)
    assert BlockGrid((100, 100, 100), (1.0, 1.0, 1.0), 50**3).sizes == (2, 2, 2)
    assert BlockGrid((1, 100, 100), (0.1, 1.0, 1.0), 2500).sizes == (1, 2, 2)


def test_a_long_axis_is_coarsened_first_if_sides_are_limited() -> None:
    assert BlockGrid((1, 3, 1001), (1.0, 1.0, 1.0), 10**6, 100).sizes == (1, 1, 11)
    assert BlockGrid((1, 3, 1001), (1.0, 1.0, 1.0), 10**6).sizes == (1, 1, 1)
    assert BlockGrid((1, 400, 1000), (1.0, 1.0, 1.0), 10000, 200).shape == (1, 58, 167)


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, max_side=7)), st.integers(1, 100))
def test_blocks_are_averaged(image: np.ndarray, cap: int) -> None:
    grid = BlockGrid(image.shape, (1.0, 1.5, 2.0), cap)
    means = grid.mean(image)
    assert means.shape == grid.shape
    assert means.dtype == np.float32
    for block in itertools.product(*map(range, grid.shape)):
        part = image[tuple(slice(i * k, (i + 1) * k) for i, k in zip(block, grid.sizes, strict=True))]
        assert means[block] == pytest.approx(part.mean(), rel=1e-5)


@given(
    st.tuples(st.integers(4, 12), st.integers(4, 12), st.integers(4, 12)),
    st.integers(30, 400),
    st.tuples(st.floats(-1, 1), st.floats(-1, 1), st.floats(-1, 1), st.floats(-5, 5)),
)
def test_a_plane_through_the_blocks_is_a_plane_through_the_voxels(
    shape: tuple[int, int, int], cap: int, plane: tuple[float, ...]
) -> None:
    grid = BlockGrid(shape, (1.0, 1.0, 1.0), cap)
    *normal, offset = plane
    ramp = sum(n * axis for n, axis in zip(normal, np.indices(shape), strict=True)) + offset - 5 * sum(normal)
    mask = grid.positive(grid.mean(ramp))
    centre_box = []
    for length, size, n in zip(shape, grid.sizes, grid.shape, strict=True):
        ends = np.arange(0, length, size), np.minimum(np.arange(size, length + size, size), length)[:n]
        centres = (ends[0] + ends[1] - 1) / 2
        centre_box.append(slice(int(np.ceil(centres[0])), int(np.floor(centres[-1])) + 1))
    inner, sure = ramp[tuple(centre_box)], np.abs(ramp[tuple(centre_box)]) > 1e-4
    assert np.array_equal(mask[tuple(centre_box)][sure], inner[sure] > 0)


def test_a_lone_block_stays_within_its_neighbours() -> None:
    grid = BlockGrid((8, 8, 8), (1.0, 1.0, 1.0), 64)
    values = -np.ones(grid.shape, np.float32)
    values[1, 2, 3] = 1
    mask = grid.positive(values)
    # half-way to each neighbouring centre, two voxels away: the block itself
    expected = np.zeros((8, 8, 8), bool)
    expected[2:4, 4:6, 6:8] = True
    assert not (mask & ~expected).any()
    assert mask.any()
    assert not grid.positive(-values - 2).any()
