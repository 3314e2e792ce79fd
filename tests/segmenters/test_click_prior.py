"""Tests the click prior against its formula."""

import numpy as np
import pytest
import torch

from synthfm_env.prompts import Click
from synthfm_env.segmenters.click_distances import ClickDistances
from synthfm_env.segmenters.sam2.multiview.click_prior import click_prior

MM = (1.0, 1.0, 1.0)
WHOLE = (slice(0, 1), slice(0, 41), slice(0, 61))


def measured(image: np.ndarray, *clicks: Click) -> ClickDistances:
    distances = ClickDistances(image, MM)
    for click in clicks:
        distances = distances.with_click(click)
    return distances


def flat() -> np.ndarray:
    return np.full((1, 41, 61), 90, np.uint8)


def test_on_a_flat_image_it_follows_its_formula() -> None:
    distances = measured(flat(), Click((0, 20, 20)), Click((0, 20, 40), False))
    found = click_prior(distances, WHOLE, (1, 41, 61)).logits.numpy()[0]
    for y, x in ((20, 20), (20, 23), (20, 30), (20, 40), (20, 38), (5, 20), (30, 33)):
        inside, outside = abs(y - 20) + abs(x - 20), abs(y - 20) + abs(x - 40)  # face neighbours: city block
        border = min(y, x, 40 - y, 60 - x)
        balance = (min(outside, border) - inside) / (min(outside, border) + inside)
        near = 16 * np.exp(-min(inside, outside) / 5) * np.sign(outside - inside)
        assert found[y, x] == pytest.approx(2 * np.sign(balance) * abs(balance) ** 0.5 + near, rel=1e-4)


def test_a_click_outweighs_a_view_that_is_sure_and_far_away_it_does_not() -> None:
    found = click_prior(measured(flat(), Click((0, 20, 20))), WHOLE, (1, 41, 61)).logits.numpy()[0]
    assert found[20, 20] > 8
    assert abs(found[20, 50]) < 8


def test_an_edge_keeps_a_click_on_its_side() -> None:
    image = flat()
    image[:, :, 22:] = 200
    found = click_prior(measured(image, Click((0, 20, 15))), WHOLE, (1, 41, 61)).logits.numpy()[0]
    assert found[20, 11] > 8  # four voxels on this side
    assert found[20, 26] < 0  # and as many beyond the edge


def test_a_box_shows_its_part_of_the_whole_whatever_its_resolution() -> None:
    distances = measured(flat(), Click((0, 20, 20)), Click((0, 10, 30), False))
    whole = click_prior(distances, WHOLE, (1, 41, 61)).logits.numpy()
    box = (slice(0, 1), slice(5, 25), slice(16, 36))
    np.testing.assert_allclose(
        click_prior(distances, box, (1, 20, 20)).logits.numpy(), whole[:, 5:25, 16:36], rtol=1e-5
    )
    half = click_prior(distances, box, (1, 10, 10)).logits.numpy()
    pairs = whole[0, 5:25, 16:36].reshape(10, 2, 10, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(half[0], pairs, rtol=1e-4, atol=1e-4)


def test_one_more_click_leaves_the_distances_before_as_they_were() -> None:
    distances = measured(flat(), Click((0, 20, 20)))
    before = click_prior(distances, WHOLE, (1, 41, 61)).logits
    more = distances.with_click(Click((0, 3, 50), False))
    assert more.clicks == (*distances.clicks, Click((0, 3, 50), False))
    assert not torch.equal(click_prior(more, WHOLE, (1, 41, 61)).logits, before)
    assert torch.equal(click_prior(distances, WHOLE, (1, 41, 61)).logits, before)


def test_spacing_may_be_whole_numbers() -> None:
    whole = ClickDistances(flat(), (1, 1, 1)).with_click(Click((0, 20, 20)))
    np.testing.assert_array_equal(whole.to_positive, measured(flat(), Click((0, 20, 20))).to_positive)
