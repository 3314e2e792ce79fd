"""Computes SynthMorph label maps in 3D, and erodes thin boundaries between their clusters (SynthFM's boundary module).

Sources: SynthMorph (Hoffmann et al. 2021): the label is the argmax of smooth noise images. SynthFM, section 3.1.2: 10
to 15 clusters, of which a random subset is eroded for a random number of steps.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synthfm_env.synthesis.drawing.random_fields import cells_for, expand_planes, slabs, spline_columns, spline_matrix


def cluster_map(
    shape: Sequence[int],
    count: int,
    size: float,
    rough: float,
    dz: float,
    generator: torch.Generator,
    stretch: Sequence[float] = (1, 1, 1),
    offsets: Sequence[float] | None = None,
) -> Tensor:
    """Return int32 (D, H, W) labels 0..count-1: the argmax of ``count`` smooth noise fields.

    Args:
        shape: (D, H, W).
        count: number of clusters, at most 16.
        size: feature size in pixels.
        rough: weight of a second octave at half the size, which makes boundaries irregular.
        dz: thickness of a slice in pixels.
        generator: source of randomness; its device is used.
        stretch: factors on the size along each axis, which give layers.
        offsets: (count,), added to the fields, about in their standard deviations; they make clusters differ in size.
    """
    # Coarse noise: one grid of control points for each field.
    device = str(generator.device)
    cells = cells_for(shape, size / 2, dz, stretch)
    grid = torch.randn([count, *(c + 3 for c in cells)], generator=generator, device=device)
    grid = grid.mul(rough).add_(_neighbour_sums(grid), alpha=27**-0.5)
    # The argmax is computed as a maximum of integers whose low 4 bits are the field's index. Values from 17 to 31 have
    # the same sign and exponent as floats, so a shift by 4 bits loses only constant bits and keeps their order.
    if offsets is not None:
        grid += torch.tensor(offsets, dtype=torch.float32, device=device).view(-1, 1, 1, 1)
    grid = grid.mul_(0.5).clamp_(-7, 7).add_(24)
    # Interpolate the fields along y and x, then along z and slab by slab, with a running maximum.
    mz, my, mx = (spline_matrix(n, c, device) for n, c in zip(shape, cells, strict=True))
    planes = expand_planes(grid.flatten(0, 1), my, mx).view(count, len(grid[0]), -1)
    out = torch.empty((shape[0], shape[1] * shape[2]), dtype=torch.int32, device=device)
    indices = torch.arange(count, dtype=torch.int32, device=device).unbind()
    for rows in slabs(shape):
        columns = spline_columns(rows, *mz.shape)
        part, best = mz[rows, columns], out[rows]
        field = torch.empty(best.shape, device=device)
        bits = field.view(torch.int32)
        for k in range(count):
            torch.mm(part, planes[k, columns], out=field)
            torch.add(indices[k], bits, alpha=16, out=bits if k else best)
            if k:
                torch.maximum(best, bits, out=best)
        best.bitwise_and_(15)
    return out.view(*shape)


def _neighbour_sums(grid: Tensor) -> Tensor:
    """Return sums over 3 x 3 x 3 neighbours of (count, gz, gy, gx); values at the border repeat outside."""
    for axis in (1, 2, 3):
        n = grid.shape[axis]
        wide = torch.cat([grid.narrow(axis, 0, 1), grid, grid.narrow(axis, n - 1, 1)], axis)
        grid = wide.narrow(axis, 0, n).add(wide.narrow(axis, 2, n)).add_(wide.narrow(axis, 1, n))
    return grid


def eroded(clusters: Tensor, steps: NDArray[np.int64], across_slices: bool, strength: Tensor | None = None) -> Tensor:
    """Return the voxels that erosion removes from clusters, uint8 (D, H, W), with the 6-neighbourhood.

    Args:
        clusters: int32 (D, H, W), labels 0..K-1.
        steps: (K,), number of erosions of each cluster.
        across_slices: whether the first erosion also acts between slices. Later ones never do, because boundaries are
            thin and slices often thick.
        strength: float (D, H, W), multiplies the steps at each voxel, up to the largest of ``steps``. Boundaries vary
            in thickness, and are open at less than half a step.
    """
    most = int(steps.max(initial=0))
    eroded_away = torch.zeros(clusters.shape, dtype=torch.uint8, device=clusters.device)
    if not most:
        return eroded_away
    # Number of erosions of each voxel.
    table = torch.as_tensor(steps, dtype=torch.float32, device=clusters.device)
    left, state = torch.empty_like(eroded_away), clusters.to(torch.uint8)
    for rows in slabs(clusters.shape):
        part = table.index_select(0, clusters[rows].flatten()).view(left[rows].shape)
        if strength is not None:
            part.mul_(strength[rows]).add_(0.5).clamp_(0, most)
        left[rows] = part.int()  # conversion to bytes without this step takes twice as long
    for step in range(most):
        # First erosion: voxels next to another cluster. Later ones: voxels next to an eroded one. Bytes of 0 and 1 are
        # faster than comparisons, which torch does not vectorise.
        edge = torch.zeros_like(eroded_away)
        for axis in range(3):
            n = state.shape[axis]
            if n == 1 or (axis == 0 and not (across_slices and step == 0)):
                continue
            a, b = (slice(None),) * axis + (slice(0, n - 1),), (slice(None),) * axis + (slice(1, n),)
            if step == 0:
                differs = torch.bitwise_xor(state[a], state[b]).clamp_(max=1)
                edge[a] |= differs
                edge[b] |= differs
            else:
                edge[a] |= eroded_away[b]
                edge[b] |= eroded_away[a]
        eroded_away |= edge.bitwise_and_(left.clamp(step, step + 1).sub_(step))
    return eroded_away
