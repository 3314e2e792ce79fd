"""Tests the geodesic baseline."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_shapes import middle_ball

from synthfm_env.metrics import dice
from synthfm_env.prompts import Click
from synthfm_env.segmenters import click_distances
from synthfm_env.segmenters.geodesic import Geodesic

MM = (1.0, 1.0, 1.0)


def segment(image: np.ndarray, clicks: list[Click], spacing: tuple[float, float, float] = MM) -> np.ndarray:
    with Geodesic().start(image, spacing) as session:
        for click in clicks:
            mask = session.add(click).mask
    return mask


def noisy(truth: np.ndarray, noise: float = 8.0) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.clip(80 + 70 * truth + rng.normal(0, noise, truth.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("shape", "spacing"), [((1, 61, 61), MM), ((31, 41, 41), MM), ((11, 61, 61), (5.0, 1.0, 1.0))])
def test_one_click_finds_a_noisy_ball(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> None:
    truth = middle_ball(shape, 12, spacing)
    centre = Click(tuple(n // 2 for n in shape))  # type: ignore[arg-type]
    assert dice(segment(noisy(truth), [centre], spacing), truth) > 0.95


@pytest.mark.parametrize(("shape", "spacing"), [((1, 41, 31), MM), ((15, 17, 19), MM), ((9, 25, 25), (3.0, 1.0, 1.0))])
def test_on_a_flat_image_the_region_reaches_half_way_to_the_border(
    shape: tuple[int, int, int], spacing: tuple[float, float, float]
) -> None:
    at = tuple(n // 3 if n > 1 else 0 for n in shape)
    mask = segment(np.full(shape, 90, np.uint8), [Click(at)], spacing)  # type: ignore[arg-type]
    index = np.indices(shape)
    to_click = sum(s * abs(i - c) for i, s, c in zip(index, spacing, at, strict=True))  # face neighbours: city block
    to_border = np.min(
        [s * np.minimum(i, n - 1 - i) for i, s, n in zip(index, spacing, shape, strict=True) if n > 1], axis=0
    )
    assert np.array_equal(mask, to_click < to_border)


def test_a_thin_stack_is_not_cut_off_at_its_ends() -> None:
    truth = np.repeat(middle_ball((1, 41, 41), 10), 3, axis=0)
    assert dice(segment(noisy(truth), [Click((1, 20, 20))]), truth) > 0.95


def test_clicks_of_both_signs_meet_at_the_edge_between_them() -> None:
    image = np.full((1, 40, 60), 40, np.uint8)
    image[:, 10:30, 15:30] = 120
    image[:, 10:30, 30:45] = 200
    mask = segment(image, [Click((0, 20, 22)), Click((0, 20, 38), False)])
    assert mask[0, 11:29, 16:29].all()
    mask[0, 9:31, 14:31] = False
    assert not mask.any()


def test_a_negative_click_takes_a_leak_away() -> None:
    truth = middle_ball((1, 61, 61), 8)
    image = noisy(truth | np.roll(truth, 17, axis=2))
    image[0, 29:32, 30:47] = 150  # a bridge between two discs
    first, second = Click((0, 30, 30)), Click((0, 30, 47), False)
    before, after = dice(segment(image, [first]), truth), dice(segment(image, [first, second]), truth)
    assert after > before + 0.1


def test_clicked_voxels_are_obeyed_and_the_newer_click_wins() -> None:
    image = np.full((1, 21, 21), 90, np.uint8)
    corner, centre = (0, 0, 0), (0, 10, 10)
    clicks = [Click(centre), Click(corner), Click(centre, False)]
    mask = segment(image, clicks)
    assert mask[corner]
    assert not mask[centre]
    assert segment(image, [*clicks, Click(centre)])[centre]


def test_nothing_is_inside_without_a_positive_click() -> None:
    assert not segment(noisy(middle_ball((9, 21, 21), 6)), [Click((4, 10, 10), False)]).any()


def test_units_and_gain_do_not_matter() -> None:
    truth = middle_ball((9, 31, 31), 8, (2.0, 1.0, 1.0))
    image = noisy(truth)
    clicks = [Click((4, 15, 15)), Click((4, 15, 27), False)]
    expected = segment(image, clicks, (2.0, 1.0, 1.0))
    assert np.array_equal(segment(image, clicks, (0.02, 0.01, 0.01)), expected)
    floats = image.astype(np.float64)
    assert np.array_equal(segment(floats * 4 - 900, clicks), segment(floats, clicks))
    rgb = np.repeat(image[..., np.newaxis], 3, axis=-1)
    assert np.array_equal(segment(rgb, clicks, (2.0, 1.0, 1.0)), expected)


def test_the_thickness_of_a_single_slice_does_not_matter() -> None:
    image = noisy(middle_ball((1, 31, 31), 8))
    thin, thick = (segment(image, [Click((0, 15, 15))], (z, 1.0, 1.0)) for z in (0.01, 50.0))
    assert np.array_equal(thin, thick)


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_order_of_clicks_and_mirrored_axes_do_not_matter(data: st.DataObject) -> None:
    shape = (3, 9, 11)
    image = np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, 256, shape).astype(np.uint8)
    voxels = list(itertools.product(*map(range, shape)))
    picked = data.draw(st.lists(st.sampled_from(voxels), min_size=1, max_size=4, unique=True))
    clicks = [Click(zyx, data.draw(st.booleans())) for zyx in picked]
    mask = segment(image, clicks)
    assert np.array_equal(segment(image, data.draw(st.permutations(clicks))), mask)
    axis = data.draw(st.integers(0, 2))
    mirrored = [
        Click(tuple(shape[axis] - 1 - i if a == axis else i for a, i in enumerate(c.zyx)), c.positive)  # type: ignore[arg-type]
        for c in clicks
    ]
    assert np.array_equal(np.flip(segment(np.flip(image, axis), mirrored), axis), mask)


def test_a_large_volume_is_worked_on_coarsely_and_clicks_still_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = middle_ball((31, 61, 61), 13)
    image = noisy(truth)
    centre, outside = Click((15, 30, 30)), Click((15, 30, 44), False)
    fine = segment(image, [centre])
    monkeypatch.setattr(click_distances, "MAX_VOXELS", 8000)
    with Geodesic().start(image, MM) as session:
        coarse = session.add(centre).mask
        assert coarse.shape == truth.shape
        assert not np.array_equal(coarse, fine)
        assert dice(coarse, truth) > 0.93
        beside = Click((15, 30, 31), False)  # in the positive click's own block
        mask = session.add(beside).mask
        assert mask[centre.zyx]
        assert not mask[beside.zyx]
        session.undo()
        assert not session.add(outside).mask[outside.zyx]


def test_encoding_is_charged_to_the_first_answer_alone() -> None:
    with Geodesic().start(noisy(middle_ball((1, 21, 21), 6)), MM) as session:
        assert session.add(Click((0, 10, 10))).seconds.encode > 0
        assert session.add(Click((0, 1, 1), False)).seconds.encode == 0
        session.reset()
        assert session.add(Click((0, 10, 10))).seconds.encode == 0
