"""Clicks by the rule of the CVPR 2025 challenge on interactive 3D segmentation."""

from typing import ClassVar

import numpy as np

from synthfm_agents.protocol import ClickContext, ClickProtocol
from synthfm_env.error_regions import as_voxel, depth_map, largest_component
from synthfm_env.prompts import Click

SEED = 42  # of every click, as published


class Cvpr25(ClickProtocol):
    """Oracle: the deepest voxel of the largest connected error, missed and false voxels together (CVPR 2025).

    1. The error is every voxel where mask and truth differ. Of its components (26 neighbours) the largest is
       taken, among equals the first in raster order. Missed and false voxels that touch are one component.
    2. Each of its voxels gets its distance, in voxels, to the nearest one outside the component; the edge of
       the image is outside, save along an axis of one voxel.
    3. The click goes to the largest distance, among equals to one drawn at random. The draw begins anew from
       seed 42 at every click, so the same error always gets the same click, whatever the episode's seed.
    4. It is positive where the truth is. On a perfect mask it stops.

    Source: ``CVPR25_iter_eval.py`` of the challenge "Foundation Models for Interactive 3D Biomedical Image
    Segmentation", CVPR 2025. Left out: the box that comes before the clicks, the halved resolution of errors of
    more than 60 million voxels, and clicks on several structures at once. A single slice gets two-dimensional
    distances here, where that code pads it to distance 1 throughout.
    """

    name: ClassVar[str] = "cvpr25-v1"

    def choose(self, context: ClickContext) -> Click | None:
        """Return the click into the largest error."""
        depths = depth_map(largest_component(context.missed | context.false))
        if depths is None:
            return None
        deepest = np.argwhere(depths.distance == depths.distance.max())
        # The published code's own generator, so that it draws the same voxel.
        drawn = deepest[np.random.RandomState(SEED).choice(len(deepest))]
        voxel = as_voxel(drawn + depths.corner)
        return Click(voxel, positive=bool(context.truth[voxel]))
