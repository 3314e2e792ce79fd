import re

import numpy as np
import pytest
from episode_records import episode

from synthfm_bench.execution.replay import ReplayedAnswer, ReplayedCase
from synthfm_bench.report.slice_svg import SIDE, draw_film
from synthfm_env.prompts import Click


def scene(shape, truth, spacing=(1.0, 1.0, 1.0), anterior_up=False) -> ReplayedCase:
    mask = np.zeros(shape, dtype=bool)
    mask[truth] = True
    return ReplayedCase(np.zeros(shape, dtype=np.uint8), mask, spacing, anterior_up)


def film(shown: ReplayedCase, *clicks: Click):
    steps = episode([0.1 * n for n in range(1, len(clicks) + 1)], budget=len(clicks))
    answers = [ReplayedAnswer(click, shown.truth, step, True) for click, step in zip(clicks, steps, strict=True)]
    return draw_film(shown, clicks, answers)


def points(svg: str, kind: str) -> np.ndarray:
    """Return the corners of the outlines of a kind, (n, 2): to the right, down."""
    (path,) = re.findall(rf'<path class="{kind}" d="([^"]*)"', svg)[:1]
    return np.array([[float(x) for x in pair.split()] for pair in re.split("[MLZ]+", path) if pair])


def discs(svg: str) -> list[tuple[float, float, str]]:
    found = re.findall(r'<g class="click ([^"]*)"[^>]*>.*?cx="([\d.]+)" cy="([\d.]+)"', svg)
    return [(float(x), float(y), kind) for kind, x, y in found]


def size(svg: str) -> tuple[float, float]:
    width, height = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg).groups()
    return float(width), float(height)


def test_the_outline_goes_around_the_voxels_and_the_click_lies_in_its_voxel():
    shown = scene((1, 20, 20), np.s_[:, 4:8, 10:18])
    (svg,) = film(shown, Click((0, 5, 12), True)).planes
    pixel = SIDE / 16  # twice the 8 columns that are of interest
    outline = points(svg, "truth") / pixel
    ((x, y, kind),) = discs(svg)
    assert outline.max(axis=0) - outline.min(axis=0) == pytest.approx([8, 4], abs=0.02)
    # From the outline's corner, the voxel (5, 12) has its middle 1.5 rows down and 2.5 columns to the right.
    assert np.array([x, y]) / pixel - outline.min(axis=0) == pytest.approx([2.5, 1.5], abs=0.02)
    assert kind == "positive"


@pytest.mark.parametrize("anterior_up", [False, True])
def test_y_grows_down_or_up_and_z_always_up(anterior_up):
    shown = scene((20, 20, 20), np.s_[5:15, 5:15, 5:15], anterior_up=anterior_up)
    low, high = Click((6, 6, 10), True), Click((13, 13, 10), False)
    axial, coronal, sagittal = (discs(svg) for svg in film(shown, low, high).planes)
    assert (axial[0][1] < axial[1][1]) == (not anterior_up)
    assert coronal[0][1] > coronal[1][1]
    assert sagittal[0][1] > sagittal[1][1]
    assert sagittal[0][0] < sagittal[1][0]


def test_clicks_in_other_slices_are_pale():
    shown = scene((9, 20, 20), np.s_[3:6, 5:15, 5:15])
    axial = film(shown, Click((3, 6, 6), True), Click((5, 6, 6), False)).planes[0]
    assert [kind for *_, kind in discs(axial)] == ["positive", "negative elsewhere"]


def test_planes_have_true_proportions_and_slivers_are_left_out():
    thick = film(scene((10, 40, 40), np.s_[2:8, 10:30, 10:30], spacing=(4.0, 1.0, 1.0)), Click((5, 20, 20), True))
    assert [size(svg) for svg in thick.planes] == [(SIDE, SIDE)] * 3
    thin = film(scene((3, 400, 400), np.s_[:, 100:300, 100:300]), Click((1, 200, 200), True))
    assert len(thin.planes) == 1


def test_every_click_has_its_mask_and_its_score():
    shown = scene((1, 20, 20), np.s_[:, 4:8, 10:18])
    made = film(shown, Click((0, 5, 12), True), Click((0, 1, 1), False), Click((0, 6, 12), True))
    assert made.signs == ("+", "-", "+")
    assert made.dices == pytest.approx((0.1, 0.2, 0.3))
    assert re.findall(r'class="step" data-step="(\d)"', made.planes[0]) == ["1", "2", "3"]
    assert [points(made.planes[0], "mask").tolist()] == [points(made.planes[0], "truth").tolist()]


def test_an_empty_mask_has_no_outline():
    shown = scene((1, 20, 20), np.s_[:, 4:8, 10:18])
    (step,) = episode([0.0], budget=1)
    made = draw_film(
        shown, [Click((0, 5, 12), True)], [ReplayedAnswer(Click((0, 5, 12), True), shown.truth & False, step, False)]
    )
    assert '<path class="mask" d=""/>' in made.planes[0]
    assert not made.same
