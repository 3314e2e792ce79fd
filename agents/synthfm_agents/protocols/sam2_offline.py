"""Clicks on the worst slice in each pass: the rule of SAM 2's offline evaluation."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from synthfm_agents.protocol import ClickContext, ClickProtocol
from synthfm_agents.protocols.ritm_3d import deeper_of
from synthfm_env.error_regions import DeepestVoxel, deepest_voxel
from synthfm_env.prompts import Click

CLICKS_A_PASS = 3


class Sam2Offline(ClickProtocol):
    """Oracle: three clicks a pass on one slice, the worst slice next (SAM 2's offline evaluation).

    1. The first pass is on the first slice (lowest z) that holds the structure, each further pass on the slice
       of lowest IoU, among equals the first. A slice without structure counts 0 if the mask enters it, else 1.
    2. A pass is three clicks, each at the deepest voxel of the slice's error: ``sam2-center-v1`` in the plane.
    3. If a slice is right before its three clicks are used, the rest of the pass goes to the worst slice.
    4. It stops on a perfect mask. SAM 2 reports 1 to 8 passes, that is 3 to 24 clicks; ``max_clicks`` sets the
       number.

    It draws nothing at random.

    Source: Ravi et al. 2024, section "Promptable video segmentation", offline. There the very first click is
    at the centre of the object, and the segmenter propagates once a pass. Here it answers every click: within a
    pass the clicks correct the slice's newest answer, as there, but other slices change earlier. If a slice is
    right, that code clicks the first pixel as negative.
    """

    name: ClassVar[str] = "sam2-offline-v1"

    def choose(self, context: ClickContext) -> Click | None:
        """Return the click into the slice's deepest error."""
        wrong: NDArray[np.bool_] = np.asarray((context.missed | context.false).any(axis=(1, 2)))
        if not wrong.any():
            return None
        z = _slice_of_pass(context, wrong)
        click = deeper_of(_deepest_in(context.missed, z), _deepest_in(context.false, z))
        assert click is not None
        return Click((z, *click.zyx[1:]), click.positive)


def _slice_of_pass(context: ClickContext, wrong: NDArray[np.bool_]) -> int:
    """Return the slice of the next click: that of the present pass while it is wrong, else the worst one."""
    if len(context.clicks) % CLICKS_A_PASS:
        z = context.clicks[-1].zyx[0]
    elif context.clicks:
        return _worst_slice(context)
    else:
        z = int(context.truth.any(axis=(1, 2)).argmax())
    return z if wrong[z] else _worst_slice(context)


def _worst_slice(context: ClickContext) -> int:
    """Return the slice of lowest IoU, which is 1 if neither structure nor mask is in it."""
    common = np.count_nonzero(context.truth & context.mask, axis=(1, 2))
    union = np.count_nonzero(context.truth | context.mask, axis=(1, 2))
    return int(np.where(union > 0, common / np.maximum(union, 1), 1.0).argmin())


def _deepest_in(region: NDArray[np.bool_], z: int) -> DeepestVoxel:
    return deepest_voxel(region[z : z + 1])
