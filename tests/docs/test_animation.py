"""Tests the script that draws the README's animation."""

import runpy
from pathlib import Path

import numpy as np

SCRIPT = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "images" / "make_episode.py"))
SIDE, MASK, TRUTH, POSITIVE = (SCRIPT[name] for name in ("SIDE", "MASK", "TRUTH", "POSITIVE"))


def drawn(mask_x: slice) -> np.ndarray:
    image = np.full((12, 16, 16), 90, np.uint8)
    truth = np.zeros(image.shape, bool)
    truth[3:9, 4:12, 4:12] = True
    mask = np.zeros(image.shape, np.uint8)
    mask[3:9, 4:12, mask_x] = 1
    clicks = np.array([[6, 8, 8, 1]])
    return np.asarray(SCRIPT["frame"](image, mask, truth, clicks, [0.0, 0.6]))


def pixels(panel: np.ndarray, colour: tuple[int, ...]) -> int:
    return int((panel == np.array(colour)).all(-1).sum())


def test_three_planes_show_the_mask_the_truth_and_the_click():
    frame = drawn(slice(4, 9))
    for top, left in ((0, 0), (0, SIDE + 8), (SIDE + 8, 0)):
        panel = frame[top : top + SIDE, left : left + SIDE]
        assert min(pixels(panel, tuple(MASK)), pixels(panel, TRUTH), pixels(panel, POSITIVE)) > 20


def test_a_larger_mask_has_a_longer_contour():
    assert pixels(drawn(slice(4, 7)), tuple(MASK)) < pixels(drawn(slice(4, 12)), tuple(MASK))


def test_the_curve_has_a_point_for_each_click():
    one, two = (pixels(np.asarray(SCRIPT["chart"](curve)), tuple(MASK)) for curve in ([0.0, 0.5], [0.0, 0.5, 0.9]))
    assert 0 < one < two
