"""Resamples along each axis by matrix products: area means to fewer voxels, linear interpolation to more."""

from functools import lru_cache

import torch
from torch import Tensor

from synthfm_env.segmenters.focus import Crop, Shape

_CACHED_PAIRS = 4096  # of lengths; an axis is rarely longer than 600 voxels, a matrix rarely larger than 100 KB


def resample(values: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Resample the last three axes to a shape.

    Sample positions align the outer edges of both grids, as ``torch.nn.functional.interpolate`` does with
    ``align_corners=False``. An axis that shrinks gets area means, so nothing is skipped; an axis that grows is
    interpolated linearly.

    Args:
        values: (..., d, h, w), any real dtype.
        shape: three lengths.

    Returns:
        float32 (..., *shape).

    Example:
        >>> resample(torch.tensor([[[0.0, 2.0, 4.0, 6.0]]]), (1, 1, 2))
        tensor([[[1., 5.]]])
    """
    values = values.float()
    # Strongest reduction first, so that intermediate results stay small.
    for axis in sorted(range(3), key=lambda axis: shape[axis] / values.shape[axis - 3]):
        if shape[axis] != values.shape[axis - 3]:
            values = along_axis(values, axis, axis_weights(values.shape[axis - 3], shape[axis]).to(values.device))
    return values


def along_axis(values: Tensor, axis: int, weights: Tensor) -> Tensor:
    """Multiply one of the last three axes by a matrix of weights.

    Args:
        values: float32 (..., d, h, w).
        axis: 0, 1 or 2, of the last three.
        weights: float32 (target, source).

    Returns:
        float32, with ``target`` voxels along the axis.
    """
    *lead, d, h, w = values.shape
    if axis == 2:
        return values @ weights.T
    if axis == 1:
        return weights @ values
    return (weights @ values.reshape(*lead, d, h * w)).reshape(*lead, len(weights), h, w)


@lru_cache(_CACHED_PAIRS)
def axis_weights(source: int, target: int) -> Tensor:
    """Return the matrix that resamples an axis of ``source`` voxels to ``target``; float32 (target, source)."""
    if target <= source:
        edges = torch.arange(target + 1, dtype=torch.float64) * source / target
        voxels = torch.arange(source, dtype=torch.float64)
        overlap = torch.minimum(edges[1:, None], voxels + 1) - torch.maximum(edges[:-1, None], voxels)
        return (overlap.clamp(min=0) * target / source).float()
    places = ((torch.arange(target, dtype=torch.float64) + 0.5) * source / target - 0.5).clamp(0, source - 1)
    below = places.long().clamp(max=max(0, source - 2))
    share = places - below
    weights = torch.zeros(target, source, dtype=torch.float64)
    weights.scatter_(1, below[:, None], (1 - share)[:, None])
    if source > 1:
        weights.scatter_add_(1, below[:, None] + 1, share[:, None])
    return weights.float()


def carry_over(logits: Tensor, old: Crop, new: Crop, grid: Shape, far: float) -> Tensor:
    """Resample logits from one crop of an image to another.

    Args:
        logits: float32 (d, h, w), spread evenly over ``old``.
        old: crop of the image.
        new: crop of the image.
        grid: shape of the result, spread evenly over ``new``.
        far: logit of voxels that ``old`` does not hold.
    """
    if old == new and tuple(logits.shape) == grid:
        return logits
    outside = []
    for axis, (before, after) in enumerate(zip(old, new, strict=True)):
        n = logits.shape[axis]
        voxels = after.start + (torch.arange(grid[axis]) + 0.5) * (after.stop - after.start) / grid[axis]
        places = (voxels - before.start) / (before.stop - before.start) * n - 0.5
        below = places.floor().clamp(0, max(0, n - 2)).long()
        share = (places - below).clamp(0, 1).view([-1 if other == axis else 1 for other in range(3)])
        low, high = logits.index_select(axis, below), logits.index_select(axis, (below + 1).clamp(max=n - 1))
        logits = low + share * (high - low)
        outside.append((voxels < before.start) | (voxels > before.stop))
    beyond = outside[0][:, None, None] | outside[1][:, None] | outside[2]
    return logits.masked_fill(beyond, far)
