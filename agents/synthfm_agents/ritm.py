"""The click rule of RITM in three dimensions."""

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import edt
import numpy as np
from numpy.typing import NDArray

from synthfm_agents.clicker import Clicker, Observation
from synthfm_env.envs.actions import click_action, stop_action
from synthfm_env.prompts import Click


class Ritm3D(Clicker):
    """Oracle: the deepest voxel of what the mask misses or of what it wrongly covers (RITM's rule).

    RITM, SimpleClick, FocalClick and SAM 2 simulate a user like this; here in three dimensions:

    1. Missed voxels (in the truth, not in the mask) and false ones (in the mask, not in the truth) each get
       their Euclidean distance to the nearest voxel that is not of their kind. Distances count voxels,
       whatever the spacing, and beyond the edge of the image nothing is of any kind. An axis of one voxel
       has no edge: on a 2D image this is the rule in two dimensions.
    2. Voxels clicked before count as distance 0.
    3. The click goes to the largest distance; among equals to the first in (z, y, x) raster order. It is
       positive where that is a missed voxel, negative where it is a false one. Where both kinds reach equally
       deep, it is negative.
    4. Where no distance is above 0 (the mask is perfect, or every wrong voxel has been clicked) it stops.

    There is no chance in it.

    Source: Sofiiuk et al., "Reviving Iterative Training with Mask Guidance for Interactive Segmentation",
    ICIP 2022, ``isegm/inference/clicker.py``. That code knows no stop: on a perfect mask it clicks the first
    pixel as negative. SAM 2's rule of this kind does not remember clicked voxels.
    """

    name: ClassVar[str] = "ritm-3d-v1"
    oracle: ClassVar[bool] = True

    def act(self, observation: Observation, info: Mapping[str, Any]) -> NDArray[np.int64]:
        """Return the click into the deepest error, or stop."""
        truth = self.truth(info)
        mask = observation["mask"] != 0
        clicked = [tuple(row[:3]) for row in observation["clicks"].tolist() if row[0] >= 0]
        missed = deepest(truth & ~mask, clicked)
        false = deepest(mask & ~truth, clicked)
        best = missed if missed.distance > false.distance else false
        if best.distance == 0:
            return stop_action()
        return click_action(Click(best.zyx, positive=best is missed))


class Deepest(NamedTuple):
    """The voxel of a region farthest from its border, and how far, in voxels; 0 where there is none."""

    zyx: tuple[int, int, int]
    distance: float


def deepest(region: NDArray[np.bool_], clicked: list[tuple[int, int, int]]) -> Deepest:
    """Return the voxel farthest from the region's border; the image's edge is one, save on axes of one voxel.

    Args:
        region: bool (D, H, W), axes (z, y, x).
        clicked: voxels that do not count.
    """
    box = _bounding_box(region)
    if box is None:
        return Deepest((0, 0, 0), 0.0)
    # Outside its box a region has no voxel, so the crop's edge is a border as the image's is.
    crop = np.ascontiguousarray(region[box])
    flat = crop.reshape([n for n, whole in zip(crop.shape, region.shape, strict=True) if whole > 1] or [1])
    distance = edt.edt(flat.view(np.uint8), black_border=True, parallel=1).reshape(crop.shape)
    corner = [s.start for s in box]
    for voxel in clicked:
        if region[voxel]:
            distance[tuple(np.subtract(voxel, corner))] = 0
    place = np.unravel_index(int(distance.argmax()), distance.shape)
    z, y, x = (int(i) + start for i, start in zip(place, corner, strict=True))
    return Deepest((z, y, x), float(distance[place]))


def _bounding_box(region: NDArray[np.bool_]) -> tuple[slice, slice, slice] | None:
    """Return the smallest box that holds a region, or None for an empty one."""
    slices = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        filled = np.flatnonzero(region.any(axis=others))
        if filled.size == 0:
            return None
        slices.append(slice(int(filled[0]), int(filled[-1]) + 1))
    z, y, x = slices
    return z, y, x
