"""Proposes another crop if an answer's mask does not fit its crop, by pure rules on masks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from synthfm_env.geometry import FEWEST_SLICES, Crop
from synthfm_env.metrics import dice
from synthfm_env.prompts import Box, Click, Prompt
from synthfm_env.segmenters.focus import FocusPolicy, Shape, covered_extent, crop_voxels, whole_crop


class Answered(Protocol):
    """The part of an ``Answer`` that the rules read."""

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """Prompts so far."""

    @property
    def clicks(self) -> tuple[Click, ...]:
        """Clicks so far."""

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

    def nearer_positive(self) -> NDArray[np.bool_] | None:
        """Return the voxels of the image that are nearer to positive clicks, or None without distances."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A crop on which to answer all prompts again.

    Attributes:
        crop: of the image.
        overview: whether fewer slices suffice.
        accepts: returns True if the answer on the crop replaces the present one.
    """

    crop: Crop
    overview: bool
    accepts: Callable[[Answered], bool]


@dataclass(frozen=True, slots=True)
class MultiViewFocus:
    """Rules of the default session of SAM 2.

    Attributes:
        shape: (D, H, W) of the image.
        policy: fits crops to masks.
        keep: accept an answer on a smaller crop only if it keeps this share of the present mask.
        widen: accept the whole image only if its mask is larger by this factor.
        streak: number of consecutive clicks of one sign after which another crop is tried.
        tighten: after negative clicks propose a crop only below this share of the current volume.
    """

    shape: Shape
    policy: FocusPolicy = field(default_factory=FocusPolicy)
    keep: float = 0.5
    widen: float = 1.5
    streak: int = 2
    tighten: float = 0.5

    @property
    def is_thin(self) -> bool:
        """Whether the image is a single slice or a stack of a few."""
        return self.shape[0] < FEWEST_SLICES

    def after_streak(self, answer: Answered) -> Proposal | None:
        """Propose a crop after several clicks of one sign, because SAM 2 treats a correction click as local.

        Positive clicks widen the crop of an image or thin stack. Negative clicks tighten the crop of a volume.
        """
        signs = {click.positive for click in answer.clicks[-self.streak :]}
        if len(answer.clicks) <= self.streak or len(signs) != 1:
            return None
        if self.is_thin:
            return self._widened(answer) if signs == {True} else None
        return self._tightened(answer) if signs == {False} else None

    def refit(self, answer: Answered) -> Proposal | None:
        """Propose a crop around the mask: after an overview, or if the policy finds that the crop does not fit."""
        anchors = _anchors(answer.prompts)
        if not answer.inside.any() or not anchors:
            return None
        if answer.sparse:
            crop = self._fitted(answer.crop, answer.inside, anchors)
        else:
            crop = self.policy.proposal(answer.crop, answer.inside, anchors, self.shape)
        return crop and Proposal(crop, False, lambda candidate: self._finds_again(answer, candidate))

    def _widened(self, answer: Answered) -> Proposal | None:
        """Propose the whole image; it is accepted if its mask is much larger."""
        crop = whole_crop(self.shape)
        if answer.crop == crop:
            return None
        least = self.widen * int(answer.mask(self.shape).sum())
        return Proposal(crop, True, lambda candidate: int(candidate.mask(self.shape).sum()) > least)

    def _tightened(self, answer: Answered) -> Proposal | None:
        """Propose a crop around the voxels that are in the mask and nearer to positive clicks.

        In a large crop SAM 2 may answer a small object with its surroundings, and each negative click then removes a
        small part only. The answer on the tight crop is accepted if it contains most of the proposed voxels.
        """
        nearer, anchors = answer.nearer_positive(), _anchors(answer.prompts)
        if nearer is None or not anchors:
            return None
        agreed = answer.mask(self.shape) & nearer
        if not agreed[answer.crop].any():
            return None
        crop = self._fitted(answer.crop, agreed[answer.crop], anchors)
        if crop is None or crop_voxels(crop) >= self.tighten * crop_voxels(answer.crop):
            return None
        least = self.keep * int(agreed.sum())
        return Proposal(crop, False, lambda candidate: int((candidate.mask(self.shape) & agreed).sum()) >= least)

    def _fitted(self, crop: Crop, mask: NDArray[np.bool_], anchors: Sequence[Click]) -> Crop | None:
        extent = covered_extent(crop, mask, anchors)
        return None if extent is None else self.policy.fitted(extent, self.shape)

    def _finds_again(self, before: Answered, after: Answered) -> bool:
        """Return True if the answer on the new crop still contains the object.

        In a volume any mask suffices, because three planes correct each other. In an image or thin stack the new mask
        may be only a part of a large, textured object, so it must keep a share of the old one. A mask that agrees
        better with the click distances is accepted too, for example a cell after its cluster.
        """
        if not after.inside.any():
            return False
        if not self.is_thin:
            return True
        old, new = before.mask(self.shape), after.mask(self.shape)
        if int((old & new).sum()) >= self.keep * int(old.sum()):
            return True
        nearer = after.nearer_positive()
        return nearer is not None and dice(new, nearer) >= dice(old, nearer)


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
