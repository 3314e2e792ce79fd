"""Clicks by the rule of MONAI's DeepGrow and DeepEdit."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from synthfm_agents.protocol import ClickContext, ClickProtocol
from synthfm_env.error_regions import as_voxel
from synthfm_env.geometry import bounding_box
from synthfm_env.prompts import Click


class MonaiDeepgrow(ClickProtocol):
    """Oracle: a random voxel of the larger error, deep ones far more likely (MONAI DeepGrow and DeepEdit).

    1. The click is positive if at least as many voxels are missed as are false, else negative.
    2. Each voxel of that error gets its chessboard distance d to the nearest voxel outside the error. It is drawn with
       a probability proportional to exp(d) - 1. The edge of the image is no border.
    3. On a perfect mask it stops. If every voxel of the image is in the error, all have the same probability.

    Source: MONAI, ``monai/apps/deepgrow/transforms.py`` and ``deepedit``, ``AddRandomGuidance.find_guidance``,
    with an interaction at every step, as in validation; in training its probability falls from step to step. That code
    divides by 0 if every voxel is in the error.
    """

    name: ClassVar[str] = "monai-deepgrow-v1"

    def choose(self, context: ClickContext) -> Click | None:
        """Return a random click into the larger error."""
        positive = bool(np.count_nonzero(context.missed) >= np.count_nonzero(context.false))
        region = context.missed if positive else context.false
        box = bounding_box(region, margin=1)
        if box is None:
            return None
        places, chances = _chances(region[box])
        voxel = as_voxel(places[self.rng.choice(len(places), p=chances)] + [s.start for s in box])
        return Click(voxel, positive)


def _chances(crop: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the (n, 3) voxels of a region in raster order, and the probability of each."""
    places = np.argwhere(crop)
    if len(places) == crop.size:
        return places, np.full(len(places), 1 / len(places))
    distance = ndimage.distance_transform_cdt(crop, metric="chessboard")[crop].astype(np.float64)
    # Divided by exp(largest), which does not change the probabilities, so that large distances do not overflow.
    weights = np.exp(distance - distance.max()) - np.exp(-distance.max())
    return places, weights / weights.sum()
