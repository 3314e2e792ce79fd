import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage

from synthfm_env.synthesis.background.clusters import cluster_map, eroded
from synthfm_env.synthesis.drawing.random_fields import cells_for, expand, spline_matrix


def test_clusters_are_the_argmax_of_smooth_noise():
    shape, count, size = (20, 64, 72), 12, 20.0
    found = cluster_map(shape, count, size, 0.4, 1.5, torch.Generator().manual_seed(3))
    cells = cells_for(shape, size / 2, 1.5)
    grid = torch.randn([count, *(c + 3 for c in cells)], generator=torch.Generator().manual_seed(3))
    smooth = F.avg_pool3d(F.pad(grid[None], (1,) * 6, mode="replicate"), 3, stride=1)[0] * 27**0.5
    mats = [spline_matrix(n, c, "cpu") for n, c in zip(shape, cells, strict=True)]
    fields = torch.stack([expand(g, *mats) for g in smooth + 0.4 * grid])
    agree = (fields.argmax(0) == found).float().mean()
    assert agree > 0.999
    assert found.dtype == torch.int32


def test_clusters_grow_with_their_size_and_stretch():
    def borders(axis, **kwargs):
        labels = cluster_map((24, 96, 96), 12, dz=1.0, rough=0.2, generator=torch.Generator().manual_seed(0), **kwargs)
        a, b = labels.narrow(axis, 0, labels.shape[axis] - 1), labels.narrow(axis, 1, labels.shape[axis] - 1)
        return float((a != b).float().mean())

    assert borders(1, size=12.0) > 2 * borders(1, size=40.0)
    layered = {"size": 16.0, "stretch": (1, 1, 5)}
    assert borders(1, **layered) > 2 * borders(2, **layered)


@pytest.mark.parametrize("across", [False, True])
def test_erosion_is_scipys_cluster_by_cluster(across):
    clusters = cluster_map((9, 40, 40), 10, 14.0, 0.3, 1.0, torch.Generator().manual_seed(1))
    steps = np.array([0, 1, 2, 3, 0, 1, 2, 3, 1, 0])
    gone = eroded(clusters, steps, across).numpy().astype(bool)
    labels = clusters.numpy()
    plane = np.zeros((3, 3, 3), bool)
    plane[1] = ndimage.generate_binary_structure(2, 1)
    first = ndimage.generate_binary_structure(3, 1) if across else plane
    for k, count in enumerate(steps):
        left = labels == k
        for step in range(count):
            # The outside of the image is not another cluster, so the image's border is not a boundary.
            left = ndimage.binary_erosion(left, first if step == 0 else plane, border_value=1) & (labels == k)
        assert np.array_equal(gone & (labels == k), (labels == k) & ~left), k


def test_nothing_is_eroded_in_no_steps():
    clusters = cluster_map((4, 32, 32), 10, 10.0, 0.3, 1.0, torch.Generator().manual_seed(1))
    assert not eroded(clusters, np.zeros(10, int), True).any()


def test_boundaries_follow_the_strength():
    clusters = cluster_map((4, 48, 64), 10, 14.0, 0.3, 1.0, torch.Generator().manual_seed(1))
    steps = np.full(10, 2)
    plain = eroded(clusters, steps, True)
    assert torch.equal(eroded(clusters, steps, True, torch.ones(clusters.shape)), plain)
    assert torch.equal(eroded(clusters, steps, True, torch.full(clusters.shape, 3.0)), plain), "never above the most"
    ramp = torch.linspace(0, 1, 64).expand(clusters.shape)
    uneven = eroded(clusters, steps, True, ramp)
    assert not uneven[..., :16].any()
    assert torch.equal(uneven[..., 48:], plain[..., 48:])
    assert bool((uneven <= plain).all())


def test_offsets_make_clusters_of_uneven_size():
    def sizes(offsets):
        found = cluster_map((8, 64, 64), 10, 10.0, 0.3, 1.0, torch.Generator().manual_seed(1), offsets=offsets)
        return torch.bincount(found.flatten(), minlength=10)

    even = sizes(None)
    assert torch.equal(even, sizes([0.0] * 10))
    assert sizes([1.0] + [0.0] * 9)[0] > 2 * even[0]
    assert sizes([-1.0] + [0.0] * 9)[0] < 0.5 * even[0]
