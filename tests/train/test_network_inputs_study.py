"""Tests the study of the volume network's inputs: hidden channels, means over cases, the table."""

from copy import deepcopy

import pytest
import torch
from study_import import imported_study

from synthfm_env.segmenters.volume_network.network import NetworkArchitecture, VolumeNetwork
from synthfm_env.segmenters.volume_network.network_input import COARSE_CHANNELS, FINE_CHANNELS, NetworkInput


@pytest.fixture(scope="module")
def study():
    with imported_study("network_inputs") as module:
        yield module


def given(seed):
    generator = torch.Generator().manual_seed(seed)
    fine = torch.randn(1, FINE_CHANNELS, 8, 8, 8, generator=generator)
    return NetworkInput(fine, torch.randn(1, COARSE_CHANNELS, 4, 4, 4, generator=generator))


@pytest.mark.parametrize("name", ["no-likeness", "no-distances"])
def test_a_network_and_its_copies_do_not_see_hidden_channels(study, name):
    variant = study.VARIANTS[name]
    network = VolumeNetwork(NetworkArchitecture(3, (8, 8))).eval()
    seen, other = given(1), given(2)
    changed = seen.fine.clone()
    changed[:, list(variant.fine)] = other.fine[:, list(variant.fine)]
    altered = NetworkInput(changed, other.coarse if variant.coarse else seen.coarse)
    assert not torch.equal(network(altered).logits, network(seen).logits)
    study.hide(network, variant)
    for each in (network, deepcopy(network)):
        assert torch.equal(each(altered).logits, each(seen).logits)
        assert not torch.equal(each(other).logits, each(seen).logits)


def test_means_are_over_cases_and_the_table_shows_the_range_of_seeds(study):
    def episode(case, level):
        return study.Played(case, "CT 3D", "", [level] * 10, 0.0, [])

    run = [episode("a", 0.2), episode("a", 0.4), episode("b", 0.7)]
    assert study.mean_over_cases(run, 5) == pytest.approx(0.5)
    table = study.table_of({"all": [run, [episode("a", 0.6)]]}).splitlines()
    assert table[2].startswith("| everything | 0.550 (0.500 to 0.600) |")
