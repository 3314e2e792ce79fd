"""The random click rule of SAM-Med3D."""

from typing import ClassVar

import numpy as np

from synthfm_agents.protocol import ClickProtocol, Scene
from synthfm_env.error_regions import as_voxel
from synthfm_env.prompts import Click


class SamMed3DRandom(ClickProtocol):
    """Oracle: a voxel drawn uniformly from all wrong ones (SAM-Med3D).

    Missed and false voxels are equally likely, each by itself; the click is positive where the truth is. On the
    first, empty mask that is a random voxel of the structure. On a perfect mask it stops.

    Source: Wang et al., "SAM-Med3D", 2023; ``utils/click_method.py``, ``get_next_click3D_torch``. On a perfect
    mask that code clicks a random voxel of the structure. Its evaluation crops the image around the structure
    before the first click; here the whole image is seen.
    """

    name: ClassVar[str] = "sammed3d-random-v1"

    def choose(self, scene: Scene) -> Click | None:
        """Return a random click into the error."""
        wrong = np.flatnonzero(scene.missed | scene.false)
        if wrong.size == 0:
            return None
        drawn = wrong[self.rng.integers(wrong.size)]
        voxel = as_voxel(np.asarray(np.unravel_index(int(drawn), scene.truth.shape)))
        return Click(voxel, positive=bool(scene.truth[voxel]))
