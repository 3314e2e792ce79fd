"""Clicks on the deepest voxel of the errors in voxels: the rule of RITM in three dimensions."""

from typing import ClassVar

from synthfm_agents.protocol import ClickContext, ClickProtocol
from synthfm_env.error_regions import DeepestVoxel, deepest_voxel
from synthfm_env.prompts import Click


class Ritm3D(ClickProtocol):
    """Oracle: the deepest voxel of what the mask misses or of what it wrongly covers (RITM's rule).

    RITM, SimpleClick, FocalClick and SAM 2 simulate a user like this; here in three dimensions:

    1. Each missed voxel (in the truth, not in the mask) gets its Euclidean distance to the nearest voxel that is not
       missed. Each false voxel (in the mask, not in the truth) gets its distance to the nearest voxel that is not
       false. Distances count voxels, whatever the spacing. The edge of the image counts as correct. An axis of one
       voxel has no edge: on a 2D image this is the rule in two dimensions.
    2. Voxels clicked before have distance 0.
    3. The click goes to the largest distance; among equals to the first in (z, y, x) raster order. It is positive on a
       missed voxel, negative on a false one, and negative if both are equally deep.
    4. If no distance is above 0 (the mask is perfect, or every wrong voxel has been clicked), it stops.

    It draws nothing at random.

    Source: Sofiiuk et al., "Reviving Iterative Training with Mask Guidance for Interactive Segmentation",
    ICIP 2022, ``isegm/inference/clicker.py``. That code never stops: on a perfect mask it clicks the first pixel as
    negative. SAM 2's similar rule (``sam2-center-v1``) does not remember clicked voxels.
    """

    name: ClassVar[str] = "ritm-3d-v1"

    def choose(self, context: ClickContext) -> Click | None:
        """Return the click into the deepest error."""
        return deeper_of(deepest_voxel(context.missed, context.clicked), deepest_voxel(context.false, context.clicked))


def deeper_of(missed: DeepestVoxel, false: DeepestVoxel) -> Click | None:
    """Return the click at the deeper of two errors, negative if both are equal; None without an error."""
    best = missed if missed.distance > false.distance else false
    return Click(best.zyx, positive=best is missed) if best.distance > 0 else None
