"""Clicks on the deepest voxel of the errors in mm: the click rule of this project."""

import math
from typing import ClassVar

import numpy as np

from synthfm_agents.protocol import ClickContext, ClickProtocol
from synthfm_agents.protocols.ritm_3d import deeper_of
from synthfm_env.error_regions import deepest_voxel, without_small_components
from synthfm_env.errors import InputError
from synthfm_env.prompts import Click

SMALL_SHARE = 0.01  # of the structure's volume; matters for structures below 100 times smallest_mm3


class SynthFMMillimetres(ClickProtocol):
    """Oracle: the deepest voxel of the error in mm, no voxel twice, small errors ignored (this project's own).

    1. Missed voxels and false voxels are split into components (26 neighbours). After the first click, a component
       below both ``smallest_mm3`` and 1 % of the structure's volume is ignored, as a user would ignore it.
    2. Each voxel of the other components gets its Euclidean distance, in mm, to the nearest voxel outside the missed
       or the false region that it belongs to. The edge of the image counts as outside, except along an axis of one
       voxel.
    3. Voxels clicked before have distance 0, so none is clicked twice.
    4. The click goes to the largest distance; among equals to the first in raster order. It is positive on a missed
       voxel and negative on a false one, and negative on a tie between the two.
    5. It stops if no distance is above 0.

    It draws nothing at random.

    Source: RITM's rule (``ritm-3d-v1``) with distances in mm instead of voxels. On slices 5 mm apart, distances in
    voxels prefer errors that are many pixels wide.

    Args:
        smallest_mm3: an error of this volume or more is never ignored; 0 or more. The default of 10 mm3 is a ball
            2.7 mm across.

    Raises:
        InputError: a negative or infinite volume.
    """

    name: ClassVar[str] = "synthfm-mm-v1"

    def __init__(self, smallest_mm3: float = 10.0) -> None:
        if not (math.isfinite(smallest_mm3) and smallest_mm3 >= 0):
            raise InputError(f"clicker {self.name!r} got smallest_mm3={smallest_mm3}: expected a volume of 0 or more")
        super().__init__(smallest_mm3=float(smallest_mm3))
        self._smallest = float(smallest_mm3)

    def choose(self, context: ClickContext) -> Click | None:
        """Return the click into the error that is deepest in mm."""
        fewest = 0.0
        if context.clicks:
            fewest = min(self._smallest / math.prod(context.spacing), SMALL_SHARE * np.count_nonzero(context.truth))
        missed, false = (
            deepest_voxel(
                without_small_components(region, fewest) if fewest > 1 else region, context.clicked, context.spacing
            )
            for region in (context.missed, context.false)
        )
        return deeper_of(missed, false)
