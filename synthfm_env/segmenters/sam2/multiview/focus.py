"""Proposes another crop if an answer does not fit its own; pure rules on masks, without a model."""

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
        """Positive logits, on a grid that is spread evenly over the crop."""

    def mask(self, shape: Shape) -> NDArray[np.bool_]:
        """Return the mask on the image's grid."""

    def nearer_positive(self) -> NDArray[np.bool_] | None:
        """Return the voxels of the image that are nearer to positive clicks, None if unknown."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A crop on which all prompts may be answered again.

    Attributes:
        crop: of the image.
        overview: whether fewer slices are enough.
        accepts: returns True if the answer on the crop is to be kept.
    """

    crop: Crop
    overview: bool
    accepts: Callable[[Answered], bool]


@dataclass(frozen=True, slots=True)
class MultiViewFocus:
    """Rules of the default session.

    Attributes:
        shape: (D, H, W) of the image.
        policy: fits crops to masks.
        keep: share of the mask before that an answer on a smaller crop must keep.
        widen: accept the whole image only if its mask is larger by this factor.
        streak: clicks of one sign in a row that call for another crop.
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
        """Propose a crop if the newest clicks have one sign: SAM 2 treats a correction click as local.

        Positive clicks widen the crop of a thin stack or image; negative ones tighten that of a volume.
        """
        signs = {click.positive for click in answer.clicks[-self.streak :]}
        if len(answer.clicks) <= self.streak or len(signs) != 1:
            return None
        if self.is_thin:
            return self._widened(answer) if signs == {True} else None
        return self._tightened(answer) if signs == {False} else None

    def refit(self, answer: Answered) -> Proposal | None:
        """Propose a crop around the mask if it meets a side of its crop or is much smaller, or after an overview."""
        anchors = _anchors(answer.prompts)
        if not answer.inside.any() or not anchors:
            return None
        if answer.sparse:
            crop = self._fitted(answer.crop, answer.inside, anchors)
        else:
            crop = self.policy.proposal(answer.crop, answer.inside, anchors, self.shape)
        return crop and Proposal(crop, False, lambda candidate: self._finds_again(answer, candidate))

    def _widened(self, answer: Answered) -> Proposal | None:
        """Propose the whole image, if that shows that the crop holds a small part of the object."""
        crop = whole_crop(self.shape)
        if answer.crop == crop:
            return None
        least = self.widen * int(answer.mask(self.shape).sum())
        return Proposal(crop, True, lambda candidate: int(candidate.mask(self.shape).sum()) > least)

    def _tightened(self, answer: Answered) -> Proposal | None:
        """Propose a crop around the voxels that mask and click distances agree on.

        Tracked among much else, a small object is answered with its surroundings, and each negative click takes away a
        dent only. The answer on the tight crop must find the object again.
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
        """Return True unless the object was lost on the new crop; in a thin stack also unless most of it was.

        On a crop of a large, textured object the model may answer with a piece of it. Three planes correct each other,
        orientations of one image do not. But click distances may side with the new answer, for example if a cell was
        answered with its cluster.
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
    """Return voxels that every crop must hold, as clicks: positive clicks, and the corners of boxes and masks."""
    anchors: list[Click] = []
    for prompt in prompts:
        boxes = [prompt.box] if prompt.box is not None else []
        boxes += [Box.around(prompt.mask)] if prompt.mask is not None else []
        anchors += [click for click in prompt.clicks if click.positive]
        for box in boxes:
            z, y, x = (stop - 1 for stop in box.stop)
            anchors += [Click(box.start), Click((z, y, x))]
    return anchors
