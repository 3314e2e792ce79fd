"""The project's own click rule: a user who sees millimetres."""

import math
from typing import ClassVar

import numpy as np

from synthfm_agents.protocol import ClickProtocol, Scene
from synthfm_agents.protocols.ritm_3d import deeper_of
from synthfm_env.error_regions import deepest, without_small_components
from synthfm_env.errors import InputError
from synthfm_env.prompts import Click

SMALL_SHARE = 0.01  # of the structure: where everything is small, errors are measured against it


class SynthFMMillimetres(ClickProtocol):
    """Oracle: the deepest voxel of the error in mm, no voxel twice, small errors let be (this project's own).

    1. Missed and false voxels each fall into components (26 neighbours). Once there is a click, a component is
       let be that is under ``smallest_mm3`` and under 1 % of the structure's volume: no user would mend it.
    2. The voxels of the others get their Euclidean distance, in mm, to the nearest voxel that is not of their
       kind. The edge of the image counts as one, save along an axis of one voxel.
    3. Voxels clicked before count as distance 0, so none is clicked twice.
    4. The click goes to the largest distance, among equals to the first in raster order; positive where that is
       a missed voxel, negative where it is a false one, negative on a tie between the two.
    5. Where there is no distance above 0 it stops: it is done.

    There is no chance in it.

    Source: RITM's rule (``ritm-3d-v1``), which counts voxels: on slices 5 mm apart it clicks where an error is
    many pixels wide, this where it is wide to the eye.

    Args:
        smallest_mm3: volume of the smallest error that is always worth a click, 0 or more. The default of
            10 mm3 is a ball 2.7 mm across.

    Raises:
        InputError: a negative or infinite volume.
    """

    name: ClassVar[str] = "synthfm-mm-v1"

    def __init__(self, smallest_mm3: float = 10.0) -> None:
        if not (math.isfinite(smallest_mm3) and smallest_mm3 >= 0):
            raise InputError(f"clicker {self.name!r} got smallest_mm3={smallest_mm3}: expected a volume of 0 or more")
        super().__init__(smallest_mm3=float(smallest_mm3))
        self._smallest = float(smallest_mm3)

    def choose(self, scene: Scene) -> Click | None:
        """Return the click into the error that is deepest in mm."""
        fewest = 0.0
        if scene.clicks:
            fewest = min(self._smallest / math.prod(scene.spacing), SMALL_SHARE * np.count_nonzero(scene.truth))
        missed, false = (
            deepest(without_small_components(region, fewest) if fewest > 1 else region, scene.clicked, scene.spacing)
            for region in (scene.missed, scene.false)
        )
        return deeper_of(missed, false)
