"""The click rule of VISTA3D's iterative evaluation."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from synthfm_agents.protocol import ClickProtocol, Scene
from synthfm_env.error_regions import bounding_box, largest_component, voxel_nearest_centroid
from synthfm_env.prompts import Click


class Vista3D(ClickProtocol):
    """Oracle: the centre of the largest error that is still there after an erosion (VISTA3D).

    1. Missed and false voxels are each eroded by a cube of 3 x 3 x 3; beyond the edge of the image nothing is
       eroded. Of what remains of each, the largest component (26 neighbours) is taken.
    2. The one of more voxels wins, the missed one on a tie. The click goes to its voxel nearest to its
       centroid, in voxels, among equals the first in raster order; positive for missed, negative for false.
    3. Where erosion leaves nothing of either, it stops, although the mask may be wrong: thin errors are
       beyond this rule.

    There is no chance in it.

    Source: He et al., "VISTA3D", CVPR 2025; ``get_next_points_val`` in Project-MONAI/VISTA with
    ``use_center=True`` (its default draws a voxel of the component at random). Where nothing is left, that code
    adds a dummy point of label -1, which the model ignores: the mask stays, so stopping scores the same. Its
    companion for SAM 2 averages all coordinates into one number, and so clicks at a corner; not done here.
    """

    name: ClassVar[str] = "vista3d-v1"

    def choose(self, scene: Scene) -> Click | None:
        """Return the click into the largest eroded error."""
        missed, false = (largest_component(_eroded(region)) for region in (scene.missed, scene.false))
        positive = bool(np.count_nonzero(missed) >= np.count_nonzero(false))
        component = missed if positive else false
        return Click(voxel_nearest_centroid(component), positive) if component.any() else None


def _eroded(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the voxels whose 3 x 3 x 3 neighbourhood, as far as the image goes, is in the region."""
    box = bounding_box(region, margin=1)
    if box is None:
        return region
    crop = region[box].copy()
    for axis in range(3):  # one axis after another is the cube
        lines = np.moveaxis(crop, axis, 0)
        before = lines.copy()
        lines[1:] &= before[:-1]
        lines[:-1] &= before[1:]
    eroded = np.zeros_like(region)
    eroded[box] = crop
    return eroded
