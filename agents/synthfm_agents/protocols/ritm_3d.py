"""Clicks on the deepest voxel of the errors in voxels: the rule of RITM in three dimensions."""

from typing import ClassVar

from synthfm_agents.protocol import ClickContext, ClickProtocol
from synthfm_env.error_regions import Deepest, deepest
from synthfm_env.prompts import Click


class Ritm3D(ClickProtocol):
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
    pixel as negative. SAM 2's rule of this kind (``sam2-center-v1``) does not remember clicked voxels.
    """

    name: ClassVar[str] = "ritm-3d-v1"

    def choose(self, context: ClickContext) -> Click | None:
        """Return the click into the deepest error."""
        return deeper_of(deepest(context.missed, context.clicked), deepest(context.false, context.clicked))


def deeper_of(missed: Deepest, false: Deepest) -> Click | None:
    """Return the click at the deeper of two errors, negative where both are equal; None if there is none."""
    best = missed if missed.distance > false.distance else false
    return Click(best.zyx, positive=best is missed) if best.distance > 0 else None
