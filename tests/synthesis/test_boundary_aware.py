"""Tests SynthFM's boundary-aware images: clusters, canvas and background as the paper states them."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from synthfm_env.synthesis import SynthFM3D
from synthfm_env.synthesis.background.boundary_aware import (
    CanvasRange,
    draw_boundary_image,
    paint,
    synthmorph_map,
)

SHAPE = (1, 256, 256)


def drawn(seed):
    return draw_boundary_image(SHAPE, (10, 15), np.random.default_rng(seed), torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seed", range(6))
def test_the_canvas_has_its_range_its_scatter_and_its_background(seed):
    found = drawn(seed)
    image, label, canvas = found.image.numpy(), found.label, found.canvas
    inside, outside = image[label > 0], np.unique(image[label == 0])
    assert 0 <= image.min() <= image.max() <= 1
    assert 0 <= canvas.low < canvas.high <= 1
    assert canvas.high - canvas.low <= 0.2
    beyond = np.mean((inside < canvas.low) | (inside > canvas.high))
    expected = canvas.scattered * (1 - (canvas.high - canvas.low))
    assert beyond == pytest.approx(expected, abs=0.01)
    assert len(outside) == 1
    assert outside[0] == pytest.approx(np.clip(inside.mean() + canvas.shift, 0, 1), abs=0.02)


@pytest.mark.parametrize("seed", range(4))
def test_structures_are_the_connected_parts_of_the_foreground(seed):
    label = drawn(seed).label
    _, count = ndimage.label(label > 0)
    assert len(np.unique(label)) - 1 == count
    background = np.mean(label == 0)
    assert 0.005 < background < 0.5  # boundaries, not areas


def test_clusters_are_warped_apart_and_all_of_the_image_is_theirs():
    rng = np.random.default_rng(3)
    labels = synthmorph_map(SHAPE, 12, rng, torch.Generator().manual_seed(3))
    assert labels.dtype == torch.int32
    assert 0 <= int(labels.min()) <= int(labels.max()) < 12
    assert len(torch.unique(labels)) >= 8
    again = synthmorph_map(SHAPE, 12, np.random.default_rng(3), torch.Generator().manual_seed(3))
    assert torch.equal(labels, again)


def test_painting_takes_each_foreground_value_from_the_canvas():
    mask = torch.zeros((1, 200, 200), dtype=torch.bool)
    mask[:, 50:] = True
    image = paint(mask, CanvasRange(0.4, 0.5, 0.0, -0.1), torch.Generator().manual_seed(0))
    assert image[mask].min() >= 0.4
    assert image[mask].max() <= 0.5
    assert image[mask].std() == pytest.approx(0.1 / 12**0.5, rel=0.05)
    assert torch.unique(image[~mask]).item() == pytest.approx(0.35, abs=0.002)


def test_a_volume_tells_its_canvas_and_the_halves_are_pure():
    boundary = [SynthFM3D(SHAPE, "synthfm2d-boundary").sample(seed) for seed in range(3)]
    assert all({"low", "high", "scattered", "shift"} == volume.metadata["canvas"].keys() for volume in boundary)
    assert all(name.startswith("region") for volume in boundary for name in volume.structures.values())
    shapes = [SynthFM3D(SHAPE, "synthfm2d-shapes").sample(seed) for seed in range(3)]
    assert all("canvas" not in volume.metadata for volume in shapes)
    both = [SynthFM3D(SHAPE, "synthfm2d").sample(seed) for seed in range(12)]
    assert 2 <= sum("canvas" in volume.metadata for volume in both) <= 10


@pytest.mark.parametrize("seed", range(3))
def test_the_bytes_do_not_depend_on_threads(seed):
    maker = SynthFM3D((1, 96, 112), "synthfm2d-boundary")
    first = maker.sample(seed)
    second = maker.sample(seed)
    assert np.array_equal(first.image, second.image)
    assert np.array_equal(first.label, second.label)
