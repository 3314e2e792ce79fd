"""Proposes another crop if an answer's mask does not fit its crop, by pure rules on masks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from synthfm_env.geometry import FEWEST_SLICES, Crop
from synthfm_env.prompts import Box, Click, Prompt
from synthfm_env.segmenters.focus import FocusPolicy, Shape, covered_extent


class Answered(Protocol):
    """The part of an ``Answer`` that the rules read."""

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """Prompts so far."""

    @property
    def crop(self) -> Crop:
        """Of the image."""

    @property
    def sparse(self) -> bool:
        """Whether a full view of the crop would have more slices."""

    @property
    def inside(self) -> NDArray[np.bool_]:
        """Positive logits, on a grid that covers the crop evenly."""

    def mask(self, shape: Shape) -> NDArray[np.bool_]:
        """Return the mask on the image's grid."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A crop on which to answer all prompts again.

    Attributes:
        crop: of the image.
        accepts: returns True if the answer on the crop replaces the present one.
    """

    crop: Crop
    accepts: Callable[[Answered], bool]


@dataclass(frozen=True, slots=True)
class MultiViewFocus:
    """Rules of the default session of SAM 2.

    Attributes:
        shape: (D, H, W) of the image.
        policy: fits crops to masks.
        keep: accept an answer on another crop of an image only if it keeps this share of the present mask.
    """

    shape: Shape
    policy: FocusPolicy = field(default_factory=FocusPolicy)
    keep: float = 0.5

    def refit(self, answer: Answered) -> Proposal | None:
        """Propose a crop around the mask: after an overview, or if the policy finds that the crop does not fit."""
        anchors = _anchors(answer.prompts)
        if not answer.inside.any() or not anchors:
            return None
        if answer.sparse:
            extent = covered_extent(answer.crop, answer.inside, anchors)
            crop = None if extent is None else self.policy.fitted(extent, self.shape)
        else:
            crop = self.policy.proposal(answer.crop, answer.inside, anchors, self.shape)
        return crop and Proposal(crop, lambda candidate: self._finds_again(answer, candidate))

    def _finds_again(self, before: Answered, after: Answered) -> bool:
        """Return True if the answer on the new crop still contains the object.

        In a volume any mask suffices, because three planes correct each other. In an image or thin stack the new mask
        may be only a part of a large, textured object, so it must keep a share of the old one.
        """
        if not after.inside.any():
            return False
        if self.shape[0] >= FEWEST_SLICES:
            return True
        old, new = before.mask(self.shape), after.mask(self.shape)
        return int((old & new).sum()) >= self.keep * int(old.sum())


def _anchors(prompts: Sequence[Prompt]) -> list[Click]:
    """Return the voxels that every crop must contain, as clicks: positive clicks, and corners of boxes and masks."""
    anchors: list[Click] = []
    for prompt in prompts:
        boxes = [prompt.box] if prompt.box is not None else []
        boxes += [Box.around(prompt.mask)] if prompt.mask is not None else []
        anchors += [click for click in prompt.clicks if click.positive]
        for box in boxes:
            z, y, x = (stop - 1 for stop in box.stop)
            anchors += [Click(box.start), Click((z, y, x))]
    return anchors
