"""Tests sweeps against scikit-image's shortest paths."""

import numpy as np
import pytest
import torch
from skimage.graph import MCP_Geometric

from synthfm_env.segmenters.volume_network.geodesic_sweeps import (
    UNREACHED,
    _path_costs,
    _sweep,
    _swept_on_cpu,
    geodesic_maps,
)


@pytest.mark.parametrize("shape", [(9, 10, 11), (1, 24, 20), (4, 16, 16)])
def test_distances_are_those_of_cheapest_paths_between_face_neighbours(shape):
    rng = np.random.default_rng(3)
    cost = 1 + 5 * rng.random(shape)
    seeds = [(0, 2, 3), (shape[0] - 1, shape[1] - 1, 1)]
    steps = (2.0, 1.0, 1.5)
    expected, _ = MCP_Geometric(cost, fully_connected=False, sampling=steps).find_costs(seeds)
    marked = torch.zeros(1, 1, *shape, dtype=torch.bool)
    for seed in seeds:
        marked[(0, 0, *seed)] = True
    found = geodesic_maps(torch.from_numpy(cost)[None].float(), marked, torch.tensor([steps]))[0, 0]
    # Among random costs the cheapest path turns at every other voxel, more often than there are sweeps: what is found
    # is a path as well, so it is never shorter, and hardly longer.
    excess = (found.numpy() - expected) / (expected + 1)
    assert excess.min() > -1e-4
    assert excess.mean() < 0.01
    assert excess.max() < 0.15


def test_a_map_without_a_seed_is_unreached():
    maps = geodesic_maps(torch.ones(1, 3, 4, 5), torch.zeros(1, 1, 3, 4, 5, dtype=torch.bool), torch.ones(1, 3))
    assert maps.eq(UNREACHED).all()


def test_a_wall_is_passed_around():
    cost = torch.ones(1, 1, 9, 9)
    cost[0, 0, :8, 4] = 100.0
    seeds = torch.zeros(1, 1, 1, 9, 9, dtype=torch.bool)
    seeds[0, 0, 0, 0, 0] = True
    distance = geodesic_maps(cost, seeds, torch.ones(1, 3))[0, 0, 0]
    assert distance[0, 8] == pytest.approx(8 + 8 + 8)


@pytest.mark.parametrize("shape", [(9, 10, 11), (1, 24, 20), (4, 16, 16)])
def test_sweeps_on_a_cpu_and_on_other_devices_agree_bit_for_bit(shape):
    generator = torch.Generator().manual_seed(0)
    seeds = torch.rand(3, 2, *shape, generator=generator) > 0.995
    cost = 1 + 120 * torch.rand(3, *shape, generator=generator) ** 4
    steps = torch.tensor([[2.0, 1.0, 1.5]]).expand(3, 3)
    along = {axis: _path_costs(cost, axis, steps[:, axis - 1])[:, None] for axis in (1, 2, 3) if shape[axis - 1] > 1}
    distance = torch.where(seeds, 0.0, UNREACHED)
    swept = _swept_on_cpu(distance, along, list(along) * 2)
    for axis in list(along) * 2:
        distance = _sweep(distance, along[axis], axis + 1)
    assert torch.equal(swept, distance)
