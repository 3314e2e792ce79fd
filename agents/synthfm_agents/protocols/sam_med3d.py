"""Clicks on random wrong voxels: the rule of SAM-Med3D."""

from typing import ClassVar

import numpy as np

from synthfm_agents.protocol import ClickContext, ClickProtocol
from synthfm_env.error_regions import as_voxel
from synthfm_env.prompts import Click


class SamMed3DRandom(ClickProtocol):
    """Oracle: a voxel drawn uniformly from all wrong ones (SAM-Med3D).

    Every missed and every false voxel has the same probability. The click is positive on a missed voxel, negative on a
    false one. On the first, empty mask it is a random voxel of the structure. On a perfect mask the rule stops.

    Source: Wang et al., "SAM-Med3D", 2023; ``utils/click_method.py``, ``get_next_click3D_torch``. On a perfect
    mask that code clicks a random voxel of the structure. Its evaluation crops the image around the structure
    before the first click; here the image is not cropped.
    """

    name: ClassVar[str] = "sammed3d-random-v1"

    def choose(self, context: ClickContext) -> Click | None:
        """Return a random click into the error."""
        wrong = np.flatnonzero(context.missed | context.false)
        if wrong.size == 0:
            return None
        drawn = wrong[self.rng.integers(wrong.size)]
        voxel = as_voxel(np.asarray(np.unravel_index(int(drawn), context.truth.shape)))
        return Click(voxel, positive=bool(context.truth[voxel]))
