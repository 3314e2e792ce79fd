"""Computes depth, components and centre of a region of voxels, for click rules.

Regions are bool (D, H, W), axes (z, y, x). Everything is computed in the smallest box that holds the region.
"""

from typing import NamedTuple

import cc3d
import edt
import numpy as np
from numpy.typing import NDArray

from synthfm_env.geometry import bounding_box

Voxel = tuple[int, int, int]
ISOTROPIC = (1.0, 1.0, 1.0)
_WITHOUT_MARGIN = (slice(1, -1),) * 3


class DeepestVoxel(NamedTuple):
    """The voxel of a region that is farthest from its border, and its distance; 0 for an empty region."""

    zyx: Voxel
    distance: float


class DepthMap(NamedTuple):
    """Distances to the border of a region, in the region's bounding box.

    Attributes:
        distance: float32, the shape of the box; 0 outside the region.
        corner: (z, y, x) of the box's first voxel in the volume.
    """

    distance: NDArray[np.float32]
    corner: Voxel


def depth_map(region: NDArray[np.bool_], spacing: tuple[float, float, float] = ISOTROPIC) -> DepthMap | None:
    """Return the distance of each voxel to the nearest voxel outside the region, or None for an empty region.

    The edge of the image counts as outside, except along an axis of one voxel: a 2D image gets distances in two
    dimensions.

    Args:
        region: bool (D, H, W).
        spacing: voxel size (z, y, x), the unit of the distance; by default distances count voxels.
    """
    box = bounding_box(region)
    if box is None:
        return None
    # No voxel of the region is outside its box, so the edge of the crop may count as outside too.
    crop = np.ascontiguousarray(region[box])
    axes = [axis for axis in range(3) if region.shape[axis] > 1] or [2]
    flat = crop.reshape([crop.shape[axis] for axis in axes]).view(np.uint8)
    step = tuple(spacing[axis] for axis in axes)
    anisotropy = step if len(step) > 1 else step[0]  # edt takes a number for one axis
    distance = edt.edt(flat, anisotropy=anisotropy, black_border=True, parallel=1).reshape(crop.shape)
    return DepthMap(distance, (box[0].start, box[1].start, box[2].start))


def deepest_voxel(
    region: NDArray[np.bool_],
    clicked: list[Voxel] | None = None,
    spacing: tuple[float, float, float] = ISOTROPIC,
) -> DeepestVoxel:
    """Return the voxel farthest from the region's border, among equals the first in raster order.

    Args:
        region: bool (D, H, W).
        clicked: voxels that count as distance 0.
        spacing: voxel size (z, y, x), the unit of the distance.
    """
    depths = depth_map(region, spacing)
    if depths is None:
        return DeepestVoxel((0, 0, 0), 0.0)
    distance = depths.distance
    for voxel in clicked or ():
        if region[voxel]:
            distance[tuple(np.subtract(voxel, depths.corner))] = 0
    place = np.unravel_index(int(distance.argmax()), distance.shape)
    return DeepestVoxel(as_voxel(np.add(place, depths.corner)), float(distance[place]))


def largest_component(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the component of most voxels, among equals the one that comes first in raster order.

    Voxels touch by faces, edges or corners (26 neighbours; 8 in a single slice). An empty region is returned as it is.
    """
    box = bounding_box(region)
    if box is None:
        return region
    labels, sizes = _components(region[box])
    best = np.flatnonzero(sizes == sizes.max())
    first = best[0] if best.size == 1 else labels.ravel()[np.isin(labels, best).argmax()]
    component = np.zeros_like(region)
    component[box] = (labels == first)[_WITHOUT_MARGIN]
    return component


def without_small_components(region: NDArray[np.bool_], fewest: float) -> NDArray[np.bool_]:
    """Return the region less its components (26 neighbours) of under ``fewest`` voxels."""
    box = bounding_box(region)
    if box is None:
        return region
    labels, sizes = _components(region[box])
    large = sizes >= fewest
    if large[1:].all():
        return region
    kept = np.zeros_like(region)
    kept[box] = (large & (sizes > 0))[labels[_WITHOUT_MARGIN]]
    return kept


def voxel_nearest_centroid(region: NDArray[np.bool_]) -> Voxel:
    """Return the region's voxel nearest to its centroid, in voxels, among equals the first in raster order.

    The region has at least one voxel.
    """
    box = bounding_box(region)
    assert box is not None
    voxels = np.array(np.nonzero(region[box]))
    # Rounded, so that equal distances stay equal for every order of summation.
    squares = np.round(((voxels - voxels.mean(axis=1, keepdims=True)) ** 2).sum(axis=0), 6)
    return as_voxel(voxels[:, squares.argmin()] + [side.start for side in box])


def as_voxel(place: NDArray[np.integer]) -> Voxel:
    """Return an index as plain integers."""
    z, y, x = (int(i) for i in place)
    return z, y, x


def _components(crop: NDArray[np.bool_]) -> tuple[NDArray[np.integer], NDArray[np.int64]]:
    """Return the components' labels, 0 outside, with a margin of one voxel, and the number of voxels of each label.

    ``labels[_WITHOUT_MARGIN]`` has the crop's shape. The number for label 0 is 0.
    """
    # The margin is for cc3d 4.1.1, which fails on some boxes one voxel wide.
    labels = cc3d.connected_components(np.pad(crop, 1), connectivity=26)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return labels, sizes
