"""Scores."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from synthfm_env.errors import InputError
from synthfm_env.metrics import dice, iou, normalised_auc

masks = hnp.arrays(bool, (2, 3, 4))


def test_values_by_hand() -> None:
    a = np.array([[[1, 1, 1, 0]]], bool)
    b = np.array([[[0, 1, 1, 1]]], bool)
    assert dice(a, b) == pytest.approx(2 / 3)
    assert iou(a, b) == pytest.approx(0.5)


def test_empty_masks() -> None:
    empty, some = np.zeros((2, 2, 2), bool), np.ones((2, 2, 2), bool)
    for score in (dice, iou):
        assert score(empty, empty) == 1.0
        assert score(empty, some) == score(some, empty) == 0.0
        assert score(some, some) == 1.0


@given(masks, masks)
def test_overlap_properties(a: np.ndarray, b: np.ndarray) -> None:
    d, j = dice(a, b), iou(a, b)
    assert 0 <= j <= d <= 1
    assert d == pytest.approx(2 * j / (1 + j))
    assert d == dice(b, a)
    assert (d == 1) == np.array_equal(a, b)
    assert d == dice(a.astype(np.uint8) * 255, b)


def test_shapes_must_agree() -> None:
    for score in (dice, iou):
        with pytest.raises(InputError, match=r"\(2, 2, 2\) and \(2, 2\)"):
            score(np.ones((2, 2, 2)), np.ones((2, 2)))


def test_area_by_hand() -> None:
    assert normalised_auc([0.0, 1.0]) == 0.5
    assert normalised_auc([0.2, 0.6, 0.8]) == pytest.approx((0.1 + 0.6 + 0.4) / 2)
    assert normalised_auc([0.7]) == 0.7
    # the challenge's own figure for five steps lies in 0..4
    five = [0.5, 0.6, 0.7, 0.8, 0.9]
    assert 4 * normalised_auc(five) == pytest.approx(0.55 + 0.65 + 0.75 + 0.85)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_area_lies_between_the_worst_and_the_best_score(scores: list[float]) -> None:
    assert min(scores) - 1e-12 <= normalised_auc(scores) <= min(1.0, max(scores) + 1e-12)
    assert normalised_auc(np.ones(len(scores))) == 1.0


@pytest.mark.parametrize("scores", [[], [0.5, float("nan")], [1.2], [-0.1], [[0.1, 0.2]]])
def test_scores_out_of_range_are_named(scores: list[float]) -> None:
    with pytest.raises(InputError, match="normalised_auc"):
        normalised_auc(scores)
