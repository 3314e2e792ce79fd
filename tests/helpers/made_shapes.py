"""Masks of simple shapes: balls, and smooth random regions with a mask that errs."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]


def ball_at(shape: Sequence[int], centre: Sequence[float], radius: float) -> Mask:
    """Return the voxels nearer to a voxel than a radius, in voxels."""
    away = [i - c for i, c in zip(np.indices(shape), centre, strict=True)]
    return np.asarray(sum(a**2 for a in away) < radius**2)


def middle_ball(shape: Sequence[int], radius: float, spacing: Sequence[float] = (1.0, 1.0, 1.0)) -> Mask:
    """Return the voxels within a radius in mm of the middle of the grid."""
    away = [(i - (n - 1) / 2) * s for i, n, s in zip(np.indices(shape), shape, spacing, strict=True)]
    return np.asarray(sum(a**2 for a in away) <= radius**2)


def blob(seed: int, shape: Sequence[int] = (14, 17, 19), sigma: float = 2.0) -> Mask:
    """Return a smooth random region of about a third of the volume."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), sigma)
    return np.asarray(field > np.quantile(field, 0.67))


def mistaken(truth: Mask, seed: int) -> Mask:
    """Return a mask of a truth that leaks in places and misses others."""
    return np.asarray(truth ^ blob(seed + 1000, truth.shape, sigma=1.5))
