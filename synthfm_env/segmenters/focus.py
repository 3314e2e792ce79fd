"""Chooses the crop of an image that a model sees, from clicks and masks alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthfm_env.geometry import Crop
from synthfm_env.prompts import Click

Shape = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class FocusPolicy:
    """Pure functions from clicks and masks to crops. Sessions decide which proposal they use.

    Attributes:
        first_side: side of the smallest crop for a first click, in voxels of the finest axis; further crops double it.
        margin: free space on either side of an object, as a share of its extent.
        least_margin: smallest margin in voxels.
        shrink: propose a smaller crop below this share of the current volume.

    Example:
        >>> policy = FocusPolicy()
        >>> [crop[2] for crop in policy.first_crops(Click((0, 50, 60)), (1, 100, 100), (1.0, 1.0, 1.0))]
        [slice(48, 72, None), slice(36, 84, None), slice(0, 100, None)]
    """

    first_side: int = 24
    margin: float = 0.4
    least_margin: int = 4
    shrink: float = 0.4

    def first_crops(self, click: Click, shape: Shape, spacing: tuple[float, float, float]) -> list[Crop]:
        """Return crops around a first click, from the smallest to the whole image.

        Sides double from crop to crop and are equal in mm, so there are fewer voxels along an axis of thick slices. A
        crop across the image's border is moved inside.

        Args:
            click: the first one, a voxel of the image.
            shape: (D, H, W) of the image.
            spacing: (z, y, x) in mm.
        """
        side = self.first_side * min(step for step, n in zip(spacing, shape, strict=True) if n > 1 or max(shape) == 1)
        crops: list[Crop] = []
        while True:
            lengths = [min(n, max(1, round(side / step))) for n, step in zip(shape, spacing, strict=True)]
            if math.prod(lengths) > 0.5 * math.prod(shape):
                return [*crops, whole_crop(shape)]
            crops.append(_centred(click.zyx, lengths, shape))
            side *= 2

    def proposal(self, crop: Crop, mask: NDArray[np.bool_], clicks: Sequence[Click], shape: Shape) -> Crop | None:
        """Return a crop that fits the mask better than the current one, or None to keep the current one.

        There is a proposal if a positive click is outside the crop, if the mask reaches a side beyond which the image
        continues, or if the fitted crop is much smaller.

        Args:
            crop: the current crop.
            mask: bool, on any grid that covers the crop evenly.
            clicks: so far; the proposal contains all positive ones.
            shape: (D, H, W) of the image.
        """
        extent = covered_extent(crop, mask, [click for click in clicks if click.positive])
        if extent is None:
            return None
        grows = any(
            (low <= side.start and side.start > 0) or (high >= side.stop and side.stop < n)
            for (low, high), side, n in zip(extent, crop, shape, strict=True)
        )
        fitted = self.fitted(extent, shape)
        smaller = crop_voxels(fitted) < self.shrink * crop_voxels(crop)
        return fitted if (grows or smaller) and fitted != crop else None

    def fitted(self, extent: Sequence[tuple[int, int]], shape: Shape) -> Crop:
        """Return a crop with margins around an extent: for each axis the first voxel, and one past the last."""
        sides = []
        for (low, high), n in zip(extent, shape, strict=True):
            margin = max(self.least_margin, round(self.margin * (high - low)))
            sides.append(slice(max(0, low - margin), min(n, high + margin)))
        return sides[0], sides[1], sides[2]


def covered_extent(
    crop: Crop, mask: NDArray[np.bool_], positive_clicks: Sequence[Click]
) -> list[tuple[int, int]] | None:
    """Return the extent of a mask and of positive clicks in voxels of the image; None if there is neither."""
    extents = []
    places = np.array([click.zyx for click in positive_clicks], dtype=int).reshape(-1, 3)
    for axis, side in enumerate(crop):
        covered = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        low, high = places[:, axis].min(initial=2**31), places[:, axis].max(initial=-1) + 1
        if len(covered):
            step = (side.stop - side.start) / mask.shape[axis]
            low = min(low, side.start + math.floor(covered[0] * step))
            high = max(high, side.start + math.ceil((covered[-1] + 1) * step))
        if high <= 0:
            return None
        extents.append((int(low), int(high)))
    return extents


def whole_crop(shape: Shape) -> Crop:
    """Return the crop that is the whole image."""
    return slice(0, shape[0]), slice(0, shape[1]), slice(0, shape[2])


def crop_voxels(crop: Crop) -> int:
    """Return the number of voxels in a crop."""
    return math.prod(side.stop - side.start for side in crop)


def _centred(place: tuple[int, int, int], lengths: Sequence[int], shape: Shape) -> Crop:
    sides = []
    for at, length, n in zip(place, lengths, shape, strict=True):
        start = min(max(0, at - length // 2), n - length)
        sides.append(slice(start, start + length))
    return sides[0], sides[1], sides[2]
