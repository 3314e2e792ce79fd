"""Computes distances in mm on parts of a voxel grid."""

from collections.abc import Callable

import edt
import numpy as np
from numpy.typing import NDArray

from synthfm_env.error_regions import Voxel, as_voxel

Spacing = tuple[float, float, float]
MARGIN = 8  # voxels around a mask in which distances to its border are computed
_FARTHEST = 1e4  # mm; also the distance if there is nothing to measure it to


def border_distances(mask: NDArray[np.bool_], spacing: Spacing) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return two distances to the mask's border in mm: of the voxels inside (0 outside), and of those outside.

    Args:
        mask: bool (d, h, w).
        spacing: voxel size (z, y, x) in mm.
    """
    return depth_mm(mask, mask.shape, spacing, border=False), depth_mm(~mask, mask.shape, spacing, border=False)


def depth_mm(
    region: NDArray[np.bool_], whole: tuple[int, ...], spacing: Spacing, border: bool = True
) -> NDArray[np.float32]:
    """Return the distance in mm of each voxel of a region to the nearest one outside it.

    Args:
        region: bool (d, h, w), a part of the volume.
        whole: shape of the volume. An axis along which it has one voxel has no border.
        spacing: voxel size (z, y, x) in mm.
        border: whether the edge of the array counts as outside.
    """
    if not region.size:
        return np.zeros(region.shape, np.float32)
    axes = [axis for axis in range(3) if whole[axis] > 1] or [2]
    steps = tuple(spacing[axis] for axis in axes)
    flat = np.ascontiguousarray(region).reshape([region.shape[axis] for axis in axes]).view(np.uint8)
    distance = edt.edt(flat, anisotropy=steps if len(steps) > 1 else steps[0], black_border=border, parallel=1)
    return np.minimum(np.asarray(distance, np.float32).reshape(region.shape), _FARTHEST)


def distance_to(shape: tuple[int, ...], places: list[NDArray[np.integer]], spacing: Spacing) -> NDArray[np.float64]:
    """Return the distance of each voxel to the nearest of some voxels in mm, float64 ``shape``; 10 m without one."""
    nearest = np.full(shape, _FARTHEST)
    for place in places:
        axes = np.ogrid[tuple(slice(n) for n in shape)]
        squares = sum(((axis - i) * mm) ** 2 for axis, i, mm in zip(axes, place, spacing, strict=True))
        np.minimum(nearest, np.sqrt(squares), out=nearest)
    return nearest


def nearest_value(values: NDArray[np.float32], corner: NDArray[np.integer]) -> Callable[[Voxel], float]:
    """Return a function that takes a voxel of the volume and returns the value of the nearest voxel of a crop.

    Args:
        values: (d, h, w), of the crop.
        corner: the crop's first voxel in the volume.
    """

    def at(voxel: Voxel) -> float:
        inner = np.clip(np.subtract(voxel, corner), 0, np.subtract(values.shape, 1))
        return float(values[tuple(inner)])

    return at


def inner_voxel(voxel: Voxel, corner: NDArray[np.integer]) -> Voxel:
    """Return the index of a volume's voxel within a crop that begins at ``corner``."""
    return as_voxel(np.subtract(voxel, corner))
