"""Tests the click prior on grids with one wall."""

import torch

from synthfm_env.segmenters.volume_network.click_prior import WEIGHT, click_prior
from synthfm_env.segmenters.volume_network.network_input import GridPrompt, network_input


def halves() -> torch.Tensor:
    image = torch.full((12, 12, 12), 40.0)
    image[:, :, 6:] = 200.0
    return image


def prior(*clicks: tuple[tuple[float, float, float], bool]) -> torch.Tensor:
    places = torch.tensor([place for place, _ in clicks])
    return click_prior(network_input([GridPrompt(halves(), None, places, [positive for _, positive in clicks])]))[0]


def test_it_is_the_weight_at_clicks_and_bounded_elsewhere():
    logits = prior(((5.0, 5.0, 3.0), True), ((5.0, 5.0, 9.0), False))
    assert logits[5, 5, 3] > 0.5 * WEIGHT
    assert logits[5, 5, 9] < -0.5 * WEIGHT
    assert logits.abs().max() <= WEIGHT


def test_it_changes_sign_at_the_wall():
    logits = prior(((5.0, 5.0, 3.0), True), ((5.0, 5.0, 9.0), False))
    assert logits[5, 5, 4] > 0
    assert logits[5, 5, 7] < 0


def test_a_batch_is_answered_as_one_by_one():
    one = GridPrompt(halves(), None, torch.tensor([[5.0, 5.0, 3.0]]), [True])
    other = GridPrompt(halves().flip(2), None, torch.tensor([[2.0, 5.0, 3.0], [8.0, 8.0, 8.0]]), [True, False])
    together = click_prior(network_input([one, other]))
    torch.testing.assert_close(together, torch.cat([click_prior(network_input([each])) for each in (one, other)]))


def test_clicks_outside_the_grid_have_no_effect():
    given = prior(((5.0, 5.0, 3.0), True), ((5.0, 5.0, 30.0), True), ((5.0, -4.0, 3.0), False))
    torch.testing.assert_close(given, prior(((5.0, 5.0, 3.0), True)))
