"""Protocols that click on one slice and leave the rest to propagation."""

from typing import ClassVar

import numpy as np

from synthfm_agents.protocol import ClickProtocol, Scene
from synthfm_agents.regions import as_voxel, deepest, depth, largest_component
from synthfm_env.prompts import Click

FEWEST_PIXELS = 256
SHALLOW = 1.42  # pixels: a little over a diagonal
CLICKS = 5


class Shen2024(ClickProtocol):
    """Oracle: up to five clicks on the middle slice, each in the larger error's deepest pixel (Shen et al.).

    1. Slices from the first to the last with more than 256 pixels of the structure are kept; where none has so
       many, those from the first to the last with any. All clicks are on the middle one, the later of two.
    2. There, missed or false pixels, whichever are more (missed on a tie), get their distance to the nearest
       pixel not of their kind; the edge of the image is one. The click goes to the largest, among equals to the
       first in raster order; positive for missed, negative for false.
    3. It stops where that distance is 1.42 pixels or less, and after five clicks.

    There is no chance in it.

    Source: Shen et al., "Interactive 3D Medical Image Segmentation with SAM 2", 2024, code of
    Chuyun-Shen/SAM_2_Medical_3D. There slices that are not kept are cut away, which tells the model where the
    structure ends, and volumes whose middle slice has at most 100 pixels of it are left out; here every volume
    stays whole. There the volume is segmented once, after the clicks.
    """

    name: ClassVar[str] = "shen2024-v1"

    def choose(self, scene: Scene) -> Click | None:
        """Return the next click on the middle slice."""
        area = np.count_nonzero(scene.truth, axis=(1, 2))
        kept = np.flatnonzero(area > (FEWEST_PIXELS if area.max() > FEWEST_PIXELS else 0))
        if len(kept) == 0 or len(scene.clicks) >= CLICKS:
            return None
        z = (int(kept[0]) + int(kept[-1]) + 1) // 2
        missed, false = scene.missed[z : z + 1], scene.false[z : z + 1]
        positive = bool(np.count_nonzero(missed) >= np.count_nonzero(false))
        (_, y, x), distance = deepest(missed if positive else false)
        return Click((z, y, x), positive) if distance > SHALLOW else None


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

    def choose(self, scene: Scene) -> Click | None:
        """Return the click, or stop where it has been placed."""
        slices = np.flatnonzero(scene.truth.any(axis=(1, 2)))
        if len(slices) == 0 or scene.clicks:
            return None
        z = int(slices[len(slices) // 2])
        found = depth(largest_component(scene.truth[z : z + 1]))
        assert found is not None
        places = np.argwhere(found.distance == found.distance.max())
        _, y, x = as_voxel(places[self.rng.integers(len(places))] + found.corner)
        return Click((z, y, x))
