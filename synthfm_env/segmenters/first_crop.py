"""Rates the answers to a first click on crops of different sizes, to find out which structure was meant.

A network tells how sure it is of each answer, but synthetic volumes do not teach how large a structure people mean. Two
habits of people help: they segment large structures rather than small ones, and they click near the middle. A third
hint is in the image: the region that paths without edges connect to the click.
"""

import math

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from synthfm_env.error_regions import depth_map
from synthfm_env.prompts import Click
from synthfm_env.segmenters.focus import Crop, Shape, crop_voxels

_PER_DOUBLING = 0.03  # predicted Dice that a crop of twice the side is worth


def expected_dice(probability: Tensor) -> float:
    """Return about the Dice that a model expects of its own mask, ``probability > 0.5``; 0 for an empty one.

    Args:
        probability: float (d, h, w), of each voxel to be inside.

    Example:
        >>> import torch
        >>> [round(expected_dice(torch.tensor([[[inside, 0.5, 0.25]]])), 2) for inside in (1.0, 0.75)]
        [0.73, 0.6]
    """
    inside = probability > 0.5
    return float(2 * probability[inside].sum() / (probability.sum() + inside.sum()).clamp(min=1e-6))


def size_bonus(crop: Crop, shape: Shape) -> float:
    """Return what to add to the predicted Dice for the size of a crop: 0 for the whole image, less for smaller ones.

    Args:
        crop: of the image.
        shape: (D, H, W) of the image.

    Example:
        >>> size_bonus((slice(0, 1), slice(0, 25), slice(0, 25)), (1, 100, 100))
        -0.06
    """
    axes = sum(n > 1 for n in shape) or 1
    return _PER_DOUBLING * math.log2(crop_voxels(crop) / math.prod(shape)) / axes


def overlap_with_region(mask: NDArray[np.bool_], region: NDArray[np.bool_], crop: Crop, voxels: float) -> float:
    """Return the Dice of a mask, which is empty outside its crop, with a region of the whole image.

    Args:
        mask: bool (d, h, w), on any grid that covers the crop evenly.
        region: bool (d, h, w), the region on the same grid.
        crop: of the image.
        voxels: of the image that the region covers, inside and outside the crop.

    Example:
        >>> mask = np.zeros((1, 2, 4), dtype=bool)
        >>> mask[..., :2] = True
        >>> overlap_with_region(mask, mask, (slice(0, 1), slice(0, 20), slice(10, 50)), 1200.0)
        0.5
    """
    voxel = crop_voxels(crop) / mask.size  # voxels of the image in one of the grid
    total = np.count_nonzero(mask) * voxel + voxels
    return float(2 * np.count_nonzero(mask & region) * voxel / total) if total else 0.0


def centrality(mask: NDArray[np.bool_], crop: Crop, click: Click, spacing: tuple[float, float, float]) -> float:
    """Return the depth of a click in a mask over the mask's greatest depth: 1 in the middle, 0 outside.

    Args:
        mask: bool (d, h, w), on any grid that covers the crop evenly.
        crop: of the image.
        click: a voxel of the image.
        spacing: (z, y, x) of the image in mm.

    Example:
        >>> mask = np.zeros((1, 9, 9), dtype=bool)
        >>> mask[:, 2:7, 2:7] = True
        >>> crop = (slice(0, 1), slice(0, 9), slice(0, 9))
        >>> [round(centrality(mask, crop, Click((0, 4, x)), (1.0, 1.0, 1.0)), 2) for x in (4, 3, 2, 1)]
        [1.0, 0.67, 0.33, 0.0]
    """
    lengths = [side.stop - side.start for side in crop]
    z, y, x = (length / n * mm for length, n, mm in zip(lengths, mask.shape, spacing, strict=True))
    depths = depth_map(mask, (z, y, x))
    if depths is None:
        return 0.0
    voxel = (
        min(n - 1, int((at + 0.5 - side.start) / length * n))
        for at, side, length, n in zip(click.zyx, crop, lengths, mask.shape, strict=True)
    )
    place = tuple(at - low for at, low in zip(voxel, depths.corner, strict=True))
    if any(not 0 <= at < n for at, n in zip(place, depths.distance.shape, strict=True)):
        return 0.0
    return float(depths.distance[place] / depths.distance.max())
