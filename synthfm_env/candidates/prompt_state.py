"""Defines the state of an episode from which the next click is chosen."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthfm_env.candidates.distances import Spacing
from synthfm_env.prompts import Click

_LEAST_DISTANCE = 0.35  # of the structure's radius


@dataclass(frozen=True, slots=True, eq=False)
class PromptState:
    """State of an episode from which the next click is chosen.

    Attributes:
        image: uint8 (D, H, W).
        mask: bool (D, H, W), the segmenter's answer so far.
        clicks: in force, oldest first.
        spacing: voxel size (z, y, x) in mm.
        logits: float32 (D, h, w) of the answer, above 0 inside, at any in-plane resolution; None if there are none.
        clicks_left: share of the allowed clicks that was not used yet, 0 to 1.
        truth: bool (D, H, W), for oracles; None for blind candidates.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    clicks: tuple[Click, ...]
    spacing: Spacing
    logits: NDArray[np.float32] | None = None
    clicks_left: float = 1.0
    truth: NDArray[np.bool_] | None = None

    @property
    def radius(self) -> float:
        """Radius in mm of a ball of the truth's volume; of the mask's volume without a truth."""
        voxels = np.count_nonzero(self.mask if self.truth is None else self.truth)
        return float((3 / (4 * np.pi) * max(int(voxels), 1) * float(np.prod(self.spacing))) ** (1 / 3))

    @property
    def least_distance(self) -> float:
        """Distance in mm that candidates of one kind keep from each other and from the clicks."""
        return _LEAST_DISTANCE * self.radius
