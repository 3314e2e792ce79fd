"""Clicks on the centre of the largest eroded error: the rule of VISTA3D's iterative evaluation."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from synthfm_agents.protocol import ClickContext, ClickProtocol
from synthfm_env.error_regions import largest_component, voxel_nearest_centroid
from synthfm_env.geometry import bounding_box
from synthfm_env.prompts import Click


class Vista3D(ClickProtocol):
    """Oracle: the centre of the largest error that is still there after an erosion (VISTA3D).

    1. The missed region and the false region are each eroded by a cube of 3 x 3 x 3; the edge of the image does not
       erode. The largest component (26 neighbours) of each eroded region is taken.
    2. Of the two components the one with more voxels is chosen, the missed one on a tie. The click goes to its voxel
       nearest to its centroid, in voxels; among equals to the first in raster order. It is positive for the missed
       region, negative for the false one.
    3. If both eroded regions are empty, the rule stops, although the mask may be wrong: it does not reach thin errors.

    It draws nothing at random.

    Source: He et al., "VISTA3D", CVPR 2025; ``get_next_points_val`` in Project-MONAI/VISTA with ``use_center=True``
    (its default draws a voxel of the component at random). If both regions are empty, that code adds a dummy point of
    label -1, which the model ignores: the mask does not change, so stopping scores the same. The same code for SAM 2
    averages all coordinates into one number, and so clicks at a corner; this is not done here.
    """

    name: ClassVar[str] = "vista3d-v1"

    def choose(self, context: ClickContext) -> Click | None:
        """Return the click into the largest eroded error."""
        missed, false = (largest_component(_eroded(region)) for region in (context.missed, context.false))
        positive = bool(np.count_nonzero(missed) >= np.count_nonzero(false))
        component = missed if positive else false
        return Click(voxel_nearest_centroid(component), positive) if component.any() else None


def _eroded(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the voxels whose 3 x 3 x 3 neighbourhood, within the image, is in the region."""
    box = bounding_box(region, margin=1)
    if box is None:
        return region
    crop = region[box].copy()
    for axis in range(3):  # a cube is separable into its axes
        lines = np.moveaxis(crop, axis, 0)
        before = lines.copy()
        lines[1:] &= before[:-1]
        lines[:-1] &= before[1:]
    eroded = np.zeros_like(region)
    eroded[box] = crop
    return eroded
