"""Places the point prompts of SynthFM: positive points inside, negative points around."""

import math
from itertools import product
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from synthfm_agents.protocol import ClickContext, ClickProtocol
from synthfm_env.error_regions import Voxel, as_voxel, voxel_nearest_centroid
from synthfm_env.errors import InputError
from synthfm_env.geometry import bounding_box
from synthfm_env.prompts import Click

RING = 5  # voxels


class SynthFMPairs(ClickProtocol):
    """Oracle: positives inside the structure, negatives around it, whatever the mask (SynthFM's prompts).

    1. The first positive click is at the centroid of the structure, or its voxel nearest to that.
    2. Further positives are voxels of the structure drawn uniformly, none twice.
    3. Then come the negatives, in the ring of voxels outside the structure and within 5 voxels of it: each at
       the largest distance from the nearest of the first positive's place and the negatives before it. So the
       first is as far from the centroid as the ring allows, and the others spread out. Among equals the first in
       raster order; distances count voxels, whatever the spacing.
    4. Then it stops; also if the structure, or the ring, has no voxel left.

    The clicks do not depend on the mask: they are the points of one prompt, given one after another.
    ``synthfm-v2`` gives them at once.

    Source: Sengupta et al., "SynthFM", ISBI 2025, compares pairs of (positives, negatives); the wording of the
    rule is of the same group's "Is SAM 2 better than SAM in medical image segmentation?", 2024: one positive
    near the centroid, others random inside; two negatives outside at the largest distance from the positive
    and from each other. There is no published code. Width of the ring, order, ties and the third dimension are
    our choice, and the papers' four pairs are not all known.

    Args:
        positives: clicks inside, 0 or more.
        negatives: clicks around, 0 or more; at least one click in all.

    Raises:
        InputError: a negative number, or no click at all.
    """

    name: ClassVar[str] = "synthfm-v1"

    def __init__(self, positives: int = 1, negatives: int = 2) -> None:
        if min(positives, negatives) < 0 or positives + negatives == 0:
            raise InputError(
                f"clicker {self.name!r} got positives={positives}, negatives={negatives}: "
                "expected 0 or more of each and at least one click in all"
            )
        super().__init__(positives=positives, negatives=negatives)
        self._positives, self._all = positives, positives + negatives

    def choose(self, context: ClickContext) -> Click | None:
        """Return the next point of the prompt."""
        placed = len(context.clicks)
        if placed >= self._all or not context.truth.any():
            return None
        if placed >= self._positives:
            return self._negative(context)
        if placed == 0:
            return Click(voxel_nearest_centroid(context.truth))
        free = context.truth.copy()
        for voxel in context.clicked:
            free[voxel] = False
        places = np.argwhere(free)
        return Click(as_voxel(places[self.rng.integers(len(places))])) if len(places) else None

    def _negative(self, context: ClickContext) -> Click | None:
        """Return the voxel of the ring that is farthest from the centroid and from the negatives placed so far."""
        origins: list[Voxel] = [voxel_nearest_centroid(context.truth)]
        origins += [click.zyx for click in context.clicks if not click.positive]
        ring = _ring(context.truth)
        squares = np.min([((ring - np.array(place)[:, None]) ** 2).sum(axis=0) for place in origins], axis=0)
        if not squares.any():
            return None
        return Click(as_voxel(ring[:, squares.argmax()]), positive=False)


class SynthFMPrompt(SynthFMPairs):
    """Oracle: the points of ``synthfm-v1`` as one prompt, for one answer (SynthFM's prompts as the paper gives them).

    The segmenter gets all positives and negatives together and answers once: no mask is fed back between them. A
    segmenter that cannot take several clicks at once gets them one after another.

    Source, rule and parameters: see ``synthfm-v1``.
    """

    name: ClassVar[str] = "synthfm-v2"
    at_once: ClassVar[bool] = True


def _ring(truth: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the (3, n) voxels outside a structure and near it, in raster order."""
    box = bounding_box(truth, margin=RING)
    assert box is not None
    inside = truth[box]
    depth, height, width = inside.shape
    around = np.pad(inside, RING)
    # grown[n]: within n voxels of the structure along x. Some shifts of it are several times faster than a distance
    # transform, which would also compute distances beyond the ring.
    grown = [around[:, :, RING : RING + width].copy()]
    for n in range(1, RING + 1):
        grown.append(grown[-1] | around[:, :, RING - n :][:, :, :width] | around[:, :, RING + n :][:, :, :width])
    ring = np.zeros_like(inside)
    for dz, dy in product(range(-RING, RING + 1), repeat=2):
        left = RING**2 - dz**2 - dy**2
        if left >= 0:
            ring |= grown[math.isqrt(left)][RING + dz :, RING + dy :][:depth, :height]
    return np.array(np.nonzero(ring & ~inside)) + [[side.start] for side in box]
