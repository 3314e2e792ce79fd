"""Tests the input channels of the volume network."""

import torch

from synthfm_env.segmenters.volume_network.network_input import GridPrompt, geodesic_balances


def test_the_geodesic_balance_separates_an_even_box_from_its_surroundings():
    image = torch.full((24, 24, 24), 40.0) + torch.rand(24, 24, 24, generator=torch.Generator().manual_seed(0))
    image[8:18, 6:16, 9:19] += 100
    places = torch.tensor([[12.0, 11.0, 14.0], [3.0, 3.0, 3.0]])
    region = geodesic_balances([GridPrompt(image, None, places, [True, False])])[0] > 0
    assert torch.equal(region[9:17, 7:15, 10:18], torch.ones(8, 8, 8, dtype=torch.bool))
    assert not region[:7].any()
    assert not region[19:].any()


def test_without_edges_the_balance_is_that_of_straight_distances():
    balance = geodesic_balances([GridPrompt(torch.zeros(1, 1, 9), None, torch.tensor([[0.0, 0.0, 4.0]]), [True])])[0]
    assert balance[0, 0, 4] > 0
    assert balance[0, 0, 0] < 0
    assert balance[0, 0, 8] < 0
