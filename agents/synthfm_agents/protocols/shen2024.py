"""Clicks five times on the middle slice: the rule of Shen et al. 2024."""

from typing import ClassVar

import numpy as np

from synthfm_agents.protocol import ClickContext, ClickProtocol
from synthfm_env.error_regions import deepest_voxel
from synthfm_env.prompts import Click

FEWEST_PIXELS = 256
SHALLOW = 1.42  # pixels: a little over a diagonal
CLICKS = 5


class Shen2024(ClickProtocol):
    """Oracle: up to five clicks on the middle slice, each in the larger error's deepest pixel (Shen et al.).

    1. Slices from the first to the last with more than 256 pixels of the structure are kept; if none has so
       many, those from the first to the last with any. All clicks are on the middle one, the later of two.
    2. There, missed or false pixels, whichever are more (missed on a tie), get their distance to the nearest
       pixel not of their kind; the edge of the image is one. The click goes to the largest, among equals to the
       first in raster order; positive for missed, negative for false.
    3. It stops if that distance is 1.42 pixels or less, and after five clicks.

    It draws nothing at random.

    Source: Shen et al., "Interactive 3D Medical Image Segmentation with SAM 2", 2024, code of
    Chuyun-Shen/SAM_2_Medical_3D. There slices that are not kept are cut away, which tells the model where the
    structure ends, and volumes whose middle slice has at most 100 pixels of it are left out; here every volume
    stays whole. There the volume is segmented once, after the clicks.
    """

    name: ClassVar[str] = "shen2024-v1"

    def choose(self, context: ClickContext) -> Click | None:
        """Return the next click on the middle slice."""
        area = np.count_nonzero(context.truth, axis=(1, 2))
        kept = np.flatnonzero(area > (FEWEST_PIXELS if area.max() > FEWEST_PIXELS else 0))
        if len(kept) == 0 or len(context.clicks) >= CLICKS:
            return None
        z = (int(kept[0]) + int(kept[-1]) + 1) // 2
        missed, false = context.missed[z : z + 1], context.false[z : z + 1]
        positive = bool(np.count_nonzero(missed) >= np.count_nonzero(false))
        (_, y, x), distance = deepest_voxel(missed if positive else false)
        return Click((z, y, x), positive) if distance > SHALLOW else None
