"""Tests the random walker on synthetic shapes, and its bounded cost."""

import itertools
import math
import warnings

import numpy as np
import pytest
from made_shapes import middle_ball

from synthfm_env.metrics import dice
from synthfm_env.prompts import Click
from synthfm_env.segmenters import random_walker as module
from synthfm_env.segmenters.random_walker import RandomWalker
from synthfm_env.testing import check_segmenter

MM = (1.0, 1.0, 1.0)


def noisy(truth: np.ndarray) -> np.ndarray:
    return np.clip(80 + 70 * truth + np.random.default_rng(0).normal(0, 6, truth.shape), 0, 255).astype(np.uint8)


def segment(image: np.ndarray, clicks: list[Click], spacing: tuple[float, float, float] = MM) -> np.ndarray:
    with RandomWalker().start(image, spacing) as session:
        return session.prompt(clicks).mask


def test_the_contract_is_kept() -> None:
    check_segmenter(RandomWalker())


@pytest.mark.parametrize(("shape", "spacing"), [((1, 61, 61), MM), ((31, 41, 41), MM), ((11, 61, 61), (5.0, 1.0, 1.0))])
def test_one_click_finds_a_noisy_ball(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> None:
    truth = middle_ball(shape, 12, spacing)
    centre = Click(tuple(n // 2 for n in shape))  # type: ignore[arg-type]
    assert dice(segment(noisy(truth), [centre], spacing), truth) > 0.9


def test_clicked_voxels_get_their_label_and_without_a_positive_click_nothing_is_inside() -> None:
    image = np.full((5, 15, 15), 90, np.uint8)
    clicks = [Click((2, 7, 7)), Click((0, 0, 0)), Click((2, 7, 8), False)]
    mask = segment(image, clicks)
    assert [bool(mask[click.zyx]) for click in clicks] == [True, True, False]
    assert not segment(image, [Click((2, 7, 7), False)]).any()


def test_the_unit_of_spacing_and_mirrored_axes_do_not_matter() -> None:
    truth = middle_ball((9, 31, 31), 8, (2.0, 1.0, 1.0))
    image = noisy(truth)
    clicks = [Click((4, 15, 15)), Click((4, 15, 27), False)]
    expected = segment(image, clicks, (2.0, 1.0, 1.0))
    assert np.mean(segment(image, clicks, (0.2, 0.1, 0.1)) != expected) < 1e-3
    for axis in range(3):
        mirrored = [
            Click(tuple(image.shape[a] - 1 - i if a == axis else i for a, i in enumerate(c.zyx)), c.positive)  # type: ignore[arg-type]
            for c in clicks
        ]
        found = segment(np.flip(image, axis), mirrored, (2.0, 1.0, 1.0))
        assert np.mean(np.flip(found, axis) != expected) < 1e-3


@pytest.mark.parametrize("shape", list(itertools.product((1, 2), (1, 3), (1, 4))))
def test_tiny_images_are_answered(shape: tuple[int, int, int]) -> None:
    image = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    for click in (Click((0, 0, 0)), Click((0, 0, 0), False)):
        assert segment(image, [click])[0, 0, 0] == click.positive


def watched_shapes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Return a list that gets the shape of each grid that is solved."""
    shapes: list[tuple[int, ...]] = []
    solve = module.random_walker

    def watched(data: np.ndarray, *args: object, **kwargs: object) -> np.ndarray:
        shapes.append(data.shape)
        return solve(data, *args, **kwargs)

    monkeypatch.setattr(module, "random_walker", watched)
    return shapes


def test_a_large_volume_is_solved_on_a_bounded_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = middle_ball((31, 61, 61), 13)
    monkeypatch.setattr(module, "MAX_VOXELS", 8000)
    shapes = watched_shapes(monkeypatch)
    assert dice(segment(noisy(truth), [Click((15, 30, 30))]), truth) > 0.85
    assert max(math.prod(shape) for shape in shapes) <= 8000


def test_a_long_thin_image_is_solved_on_a_bounded_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SIDE", 50)
    shapes = watched_shapes(monkeypatch)
    image = np.full((1, 4, 900), 40, np.uint8)
    image[:, 1:3, 300:600] = 200
    mask = segment(image, [Click((0, 2, 450))])
    assert max(max(shape) for shape in shapes) <= 50
    assert dice(mask, image > 100) > 0.9


def test_a_solver_that_stops_early_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    solve = module.random_walker

    def stopped(*args: object, **kwargs: object) -> np.ndarray:
        warnings.warn("Conjugate gradient convergence to tolerance not achieved.", UserWarning, stacklevel=2)
        return solve(*args, **kwargs)

    monkeypatch.setattr(module, "random_walker", stopped)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert segment(np.full((5, 15, 15), 90, np.uint8), [Click((2, 7, 7))]).any()


@pytest.mark.parametrize("shape", [(1, 41, 41), (15, 15, 15)])
def test_the_grey_level_of_a_flat_image_does_not_matter(shape: tuple[int, int, int]) -> None:
    click = Click(tuple(n // 2 for n in shape))  # type: ignore[arg-type]
    expected = segment(np.full(shape, 90, np.uint8), [click])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for grey in (0, 7, 128, 255):
            assert np.mean(segment(np.full(shape, grey, np.uint8), [click]) != expected) < 1e-3
