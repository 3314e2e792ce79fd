"""Damages a mask until its Dice has a stated value."""

import edt
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from synthfm_env.geometry import bounding_box
from synthfm_env.metrics import dice

_STEPS = 24  # of the bisection
_MOST_AMPLITUDE = 8.0  # of the noise, in radii of a ball of the structure's volume
_CORRELATION = 0.5  # standard deviation of the filter that correlates the noise, in the same unit

Spacing = tuple[float, float, float]


def damaged_mask(
    truth: NDArray[np.bool_], spacing: Spacing, target: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Return a copy of a mask whose border is moved by smooth noise until its Dice with the mask is ``target``.

    The signed distance to the border, in mm, is added to Gaussian noise that is correlated over half the radius of a
    ball of the structure's volume; what is above 0 is the damaged mask. Bisection finds the noise's amplitude.
    Structures of a few voxels reach the nearest Dice that their voxels allow.

    Args:
        truth: bool (D, H, W), at least one voxel.
        spacing: voxel size (z, y, x) in mm.
        target: Dice, above 0 and up to 1.
        rng: source of chance.

    Returns:
        bool (D, H, W), at least one voxel.

    Example:
        >>> truth = np.zeros((20, 20, 20), dtype=bool)
        >>> truth[5:15, 5:15, 5:15] = True
        >>> round(dice(damaged_mask(truth, (1.0, 1.0, 1.0), 0.7, np.random.default_rng(0)), truth), 1)
        0.7
    """
    # Crop to the structure with a margin for the damage; `radius` is that of a ball of the same volume, in mm.
    radius = (3 / (4 * np.pi) * np.count_nonzero(truth) * np.prod(spacing)) ** (1 / 3)
    margin = max(2, int(np.ceil(2 * radius / min(spacing))))
    box = bounding_box(truth, margin)
    assert box is not None
    crop = truth[box]
    # Signed distance in mm, and correlated noise with a standard deviation of `radius`.
    distance = _signed_distance(crop, spacing)
    noise = ndimage.gaussian_filter(rng.standard_normal(crop.shape), [_CORRELATION * radius / mm for mm in spacing])
    noise *= radius / max(float(noise.std()), 1e-12)
    # Bisect the amplitude of the noise; keep the mask whose Dice is nearest to the target.
    best, best_miss = crop, 1 - target
    low, high = 0.0, _MOST_AMPLITUDE
    for _ in range(_STEPS):
        amplitude = (low + high) / 2
        mask = distance + amplitude * noise > 0
        reached = dice(mask, crop) if mask.any() else 0.0
        if mask.any() and abs(reached - target) < best_miss:
            best, best_miss = mask, abs(reached - target)
        low, high = (amplitude, high) if reached > target else (low, amplitude)
    damaged = np.zeros_like(truth)
    damaged[box] = best
    return damaged


def _signed_distance(mask: NDArray[np.bool_], spacing: Spacing) -> NDArray[np.float32]:
    """Return the distance to the border in mm, positive inside; an axis of one voxel is left out."""
    axes = [axis for axis in range(3) if mask.shape[axis] > 1] or [2]
    steps = tuple(spacing[axis] for axis in axes)
    anisotropy = steps if len(steps) > 1 else steps[0]
    inside = np.ascontiguousarray(mask.reshape([mask.shape[axis] for axis in axes]))
    inner, outer = (edt.edt(part.view(np.uint8), anisotropy=anisotropy, parallel=1) for part in (inside, ~inside))
    return np.asarray(inner - outer).reshape(mask.shape)
