"""Clicks once on the middle slice: the rule of Dong et al. 2024."""

from typing import ClassVar

import numpy as np

from synthfm_agents.protocol import ClickContext, ClickProtocol
from synthfm_env.error_regions import as_voxel, depth_map, largest_component
from synthfm_env.prompts import Click


class Dong2024(ClickProtocol):
    """Oracle: one click in the middle slice of the structure, whatever the mask (Dong et al., F2 P1).

    1. The slice is the middle one of those that hold the structure, the later of two.
    2. Of the structure's components there (8 neighbours) the largest is taken, among equals the first in raster
       order. The click goes to a pixel farthest from the component's border, among equals to one drawn at
       random; the edge of the image is a border.
    3. Then it stops.

    Source: Dong et al., "Segment anything model 2: an application to 2D and 3D medical images", 2024;
    mazurowski-lab/segment-anything2-medical-evaluation, its default frame mode 2 and prompt mode 1. That code
    approximates the distance (OpenCV, 5 x 5), takes the last of equal components, and scores slices without the
    structure not at all. Middle means of the slices that hold it, not of the range between them.
    """

    name: ClassVar[str] = "dong2024-v1"

    def choose(self, context: ClickContext) -> Click | None:
        """Return the click, or stop if it has been placed."""
        slices = np.flatnonzero(context.truth.any(axis=(1, 2)))
        if len(slices) == 0 or context.clicks:
            return None
        z = int(slices[len(slices) // 2])
        depths = depth_map(largest_component(context.truth[z : z + 1]))
        assert depths is not None
        places = np.argwhere(depths.distance == depths.distance.max())
        _, y, x = as_voxel(places[self.rng.integers(len(places))] + depths.corner)
        return Click((z, y, x))
