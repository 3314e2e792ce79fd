"""What click rules ask of a region of voxels: its box, its depth, its components, its middle.

Regions are bool (D, H, W), axes (z, y, x). Everything is computed in the smallest box that holds the region.
"""

from typing import NamedTuple

import cc3d
import edt
import numpy as np
from numpy.typing import NDArray

from synthfm_env import geometry

Voxel = tuple[int, int, int]
Box = tuple[slice, slice, slice]
ISOTROPIC = (1.0, 1.0, 1.0)
INNER = (slice(1, -1),) * 3


class Deepest(NamedTuple):
    """The voxel of a region farthest from its border, and how far; 0 where there is none."""

    zyx: Voxel
    distance: float


class Depth(NamedTuple):
    """Distance to the border for each voxel of a box, float32, and where the box begins in the volume."""

    distance: NDArray[np.float32]
    corner: Voxel


def bounding_box(region: NDArray[np.bool_], margin: int = 0) -> Box | None:
    """Return the smallest box that holds a region, or None for an empty one.

    Args:
        region: bool (D, H, W).
        margin: voxels to add on every side, as far as the image goes.
    """
    tight = geometry.bounding_box(region)
    if any(side.stop == 0 for side in tight):
        return None
    z, y, x = (
        slice(max(0, side.start - margin), min(n, side.stop + margin))
        for side, n in zip(tight, region.shape, strict=True)
    )
    return z, y, x


def depth(region: NDArray[np.bool_], spacing: tuple[float, float, float] = ISOTROPIC) -> Depth | None:
    """Return the distance of each voxel to the nearest one outside, or None for an empty region.

    The edge of the image counts as outside, save along an axis of one voxel, which has no edge: a 2D image
    gets distances in two dimensions.

    Args:
        region: bool (D, H, W).
        spacing: voxel size (z, y, x), the unit of the distance; by default distances count voxels.
    """
    box = bounding_box(region)
    if box is None:
        return None
    # Outside its box a region has no voxel, so the crop's edge is a border as the image's is.
    crop = np.ascontiguousarray(region[box])
    axes = [axis for axis in range(3) if region.shape[axis] > 1] or [2]
    flat = crop.reshape([crop.shape[axis] for axis in axes]).view(np.uint8)
    step = tuple(spacing[axis] for axis in axes)
    anisotropy = step if len(step) > 1 else step[0]  # as edt wants it
    distance = edt.edt(flat, anisotropy=anisotropy, black_border=True, parallel=1).reshape(crop.shape)
    return Depth(distance, (box[0].start, box[1].start, box[2].start))


def deepest(
    region: NDArray[np.bool_],
    clicked: list[Voxel] | None = None,
    spacing: tuple[float, float, float] = ISOTROPIC,
) -> Deepest:
    """Return the voxel farthest from the region's border, among equals the first in raster order; see ``depth``.

    Args:
        region: bool (D, H, W).
        clicked: voxels that count as distance 0.
        spacing: voxel size (z, y, x), the unit of the distance.
    """
    found = depth(region, spacing)
    if found is None:
        return Deepest((0, 0, 0), 0.0)
    distance = found.distance
    for voxel in clicked or ():
        if region[voxel]:
            distance[tuple(np.subtract(voxel, found.corner))] = 0
    place = np.unravel_index(int(distance.argmax()), distance.shape)
    return Deepest(as_voxel(np.add(place, found.corner)), float(distance[place]))


def largest_component(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the component of most voxels, among equals the one that comes first in raster order.

    Voxels touch by faces, edges or corners (26 neighbours; 8 in a single slice). An empty region is returned.
    """
    box = bounding_box(region)
    if box is None:
        return region
    labels, sizes = _components(region[box])
    best = np.flatnonzero(sizes == sizes.max())
    first = best[0] if best.size == 1 else labels.ravel()[np.isin(labels, best).argmax()]
    component = np.zeros_like(region)
    component[box] = (labels == first)[INNER]
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
    kept[box] = (large & (sizes > 0))[labels[INNER]]
    return kept


def voxel_nearest_centroid(region: NDArray[np.bool_]) -> Voxel:
    """Return the region's voxel nearest to its centroid, in voxels, among equals the first in raster order.

    The region has at least one voxel.
    """
    box = bounding_box(region)
    assert box is not None
    voxels = np.array(np.nonzero(region[box]))
    # Rounded, so that equal distances stay equal whatever the order of the sums.
    squares = np.round(((voxels - voxels.mean(axis=1, keepdims=True)) ** 2).sum(axis=0), 6)
    return as_voxel(voxels[:, squares.argmin()] + [side.start for side in box])


def as_voxel(place: NDArray[np.integer]) -> Voxel:
    """Return an index as plain integers."""
    z, y, x = (int(i) for i in place)
    return z, y, x


def _components(crop: NDArray[np.bool_]) -> tuple[NDArray[np.integer], NDArray[np.int64]]:
    """Return labels, 0 outside, in a margin of one voxel (INNER is what they are without it), and the voxels of each.

    Label 0 counts none.
    """
    # The margin is for cc3d 4.1.1, which fails on some boxes one voxel wide.
    labels = cc3d.connected_components(np.pad(crop, 1), connectivity=26)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return labels, sizes
