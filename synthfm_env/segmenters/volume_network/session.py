"""Clicks on one structure, answered by the volume network from a crop that follows the structure."""

import math
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synthfm_env.errors import InputError
from synthfm_env.prompts import Box, Click, Prompt
from synthfm_env.segmenters.base import Prediction, Seconds, Session
from synthfm_env.segmenters.first_crop import centrality, overlap_with_region, size_bonus
from synthfm_env.segmenters.focus import Crop, FocusPolicy, Shape, covered_extent, whole_crop
from synthfm_env.segmenters.volume_network.image_pyramid import ImagePyramid
from synthfm_env.segmenters.volume_network.network_input import GridPrompt
from synthfm_env.segmenters.volume_network.resampling import along_axis, axis_weights, carry_over, resample

_LOOKS = 2  # proposals answered after a click, at most
_DOUBTFUL = 0.5  # predicted Dice below which all clicks are answered afresh as well, on crops of every size
_REGION = 0.2  # predicted Dice that full agreement with the geodesic region of the clicks is worth
_WORSE = 0.03  # a proposed crop is taken unless the predicted Dice falls by more than this
_GIVEN = 5.0  # logit inside a mask that was given
_OUTSIDE = -4.0  # carried logit of voxels that the earlier crop did not hold
_FAR = -32.0  # logit outside the crop, in the preview
_PREVIEW = 128  # pixels along a side of the preview of the logits, at most
_PREVIEW_VOXELS = 2_000_000  # of it, about: deep volumes get fewer pixels a slice


@dataclass(frozen=True, slots=True)
class Grids:
    """Sizes of the network's grids, (d, h, w), and the crops they cover, for one kind of image.

    Attributes:
        scout: on which the crops for a first click are compared.
        full: on which a click is answered.
        policy: chooses the crops that they are laid over.
        centred: whether a first click is taken to be near the middle of its structure.
    """

    scout: Shape
    full: Shape
    policy: FocusPolicy
    centred: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """One question to the network.

    Attributes:
        crop: of the image.
        prompt: what the network sees of it.
        geodesic: whether geodesic distances alone answer instead (see ``geodesic_balances``); no Dice is predicted.
    """

    crop: Crop
    prompt: GridPrompt
    geodesic: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """The network's answer to one look.

    Attributes:
        clicks: answered, oldest first.
        crop: of the image.
        logits: float32 (d, h, w), spread evenly over the crop.
        quality: predicted Dice with the whole structure.
    """

    clicks: tuple[Click, ...]
    crop: Crop
    logits: Tensor
    quality: float


Asking = Generator[list[Look], list[tuple[Tensor, float]], Answer]


class AnswersPrompts(Protocol):
    """The part of the segmenter that a session uses."""

    name: str

    def answer(self, sessions: "Sequence[VolumeNetworkSession]", prompts: Sequence[Prompt]) -> list[Prediction]:
        """Answer one prompt for each session, all in one batch."""

    def answers(self, sessions: "Sequence[VolumeNetworkSession]", prompts: Sequence[Prompt]) -> list[Answer]:
        """Return the answers on the network's grid alone; the sessions do not keep them."""


class VolumeNetworkSession(Session):
    """One structure in one image.

    A first click is answered on several crops of doubling size at once; the crop of the best answer is kept and fitted
    to its mask. Best is a high predicted Dice, a large crop and a mask like the geodesic region (see ``first_crop``).
    Later clicks are answered on the current crop, with the previous logits as input; if the predicted Dice is low, all
    clicks are answered afresh as well, and the better answer is kept. After each answer the ``FocusPolicy`` may propose
    a better crop, which is kept if the predicted Dice does not fall.

    A history of answers on the network's small grid is all the state there is: masks on the image's grid are computed
    from them, also after ``undo``.
    """

    def __init__(
        self,
        segmenter: "AnswersPrompts",
        pyramid: ImagePyramid,
        spacing: tuple[float, float, float],
        grids: Grids,
        encode_seconds: float,
    ) -> None:
        """Take an image and what answers looks at it; ``encode_seconds`` are reported with the first answer."""
        self._segmenter, self._spacing, self._grids = segmenter, spacing, grids
        self._pyramid: ImagePyramid | None = pyramid
        self._policy = grids.policy
        self._history: list[Answer] = []
        self._encode_seconds = encode_seconds

    @property
    def clicks(self) -> tuple[Click, ...]:
        """The clicks in force, oldest first."""
        return self._history[-1].clicks if self._history else ()

    @property
    def answer(self) -> Answer | None:
        """The newest answer on the network's grid; None before the first."""
        return self._history[-1] if self._history else None

    def add(self, click: Click) -> Prediction:
        """Take one more click; see ``Session.add``."""
        return self.prompt([click])

    def prompt(
        self, clicks: Sequence[Click] = (), *, box: Box | None = None, mask: NDArray[np.bool_] | None = None
    ) -> Prediction:
        """Take clicks together, and a mask to start from, as another model may have drawn it; see ``Session.prompt``.

        A mask without a click is the answer itself, as far as the network's grid can show it.
        """
        return self._segmenter.answer([self], [Prompt.of(clicks, box, mask)])[0]

    def extend(self, prompt: Prompt) -> Answer:
        """Answer a prompt as ``prompt`` does, on the network's grid alone; no mask of the image's size is made."""
        [answer] = self._segmenter.answers([self], [prompt])
        self._history.append(answer)
        return answer

    def withdraw(self) -> None:
        """Forget the newest answer, as ``undo`` does; no mask is made. There must be one."""
        self._history.pop()

    def undo(self) -> Prediction:
        """Take back the newest click; see ``Session.undo``."""
        pyramid = self._opened()
        if not self._history:
            raise InputError("session.undo(): there is no click to undo")
        started = time.perf_counter()
        self.withdraw()
        if not self._history:
            return Prediction(np.zeros(pyramid.shape, dtype=bool), None, Seconds(0.0, time.perf_counter() - started))
        return self._prediction(self._history[-1], started)

    def reset(self) -> None:
        """Forget all clicks, keep the image."""
        self._opened()
        self._history = []

    def close(self) -> None:
        """Free the image and all answers. May be called twice."""
        self._pyramid, self._history = None, []

    def check(self, prompt: Prompt) -> None:
        """Raise InputError unless the session is open and the prompt fits its image."""
        prompt.check(self._opened().shape)
        if prompt.box is not None:
            raise InputError(f"box {prompt.box}: {self._segmenter.name} takes no boxes; give clicks or a mask")

    def ask(self, prompt: Prompt) -> Asking:
        """Yield looks, be sent the network's answers to them, and return the answer to the prompt.

        Several sessions are asked at once by running their generators side by side; see the segmenter's ``answer``.
        """
        shape, clicks = self._opened().shape, (*self.clicks, *prompt.clicks)
        before = self._history[-1] if self._history else None
        if prompt.mask is not None and prompt.mask.any():
            before = self._answer_of(prompt.mask, clicks)
            if not clicks:
                return before
        if not any(click.positive for click in clicks) and prompt.mask is None:
            # Nothing was said to belong to the structure.
            return Answer(clicks, whole_crop(shape), torch.full(self._grids.full, _OUTSIDE), 0.0)
        # 1. Answer on the current crop, or find one.
        if before is not None and bool((before.logits > 0).any()):
            answer = yield from self._answer_on(self._holding(before.crop, prompt.clicks), clicks, before)
            if answer.quality < _DOUBTFUL:
                afresh = yield from self._scout(clicks)
                answer = max(answer, afresh, key=lambda each: each.quality)
        else:
            answer = yield from self._scout(clicks)
        # 2. Move to a better crop, if the mask asks for one.
        for _ in range(_LOOKS):
            crop = self._policy.proposal(answer.crop, (answer.logits > 0).numpy(), clicks, shape)
            if crop is None:
                break
            candidate = yield from self._answer_on(crop, clicks, answer)
            if candidate.quality < answer.quality - _WORSE:
                break
            answer = candidate
        return answer

    def keep(self, answer: Answer, started: float) -> Prediction:
        """Append an answer to the history and return it on the image's grid."""
        prediction = self._prediction(answer, started)
        self._history.append(answer)
        return prediction

    def _scout(self, clicks: tuple[Click, ...]) -> Asking:
        """Answer clicks on crops of doubling size around the first one; fit the best, and return the answer there."""
        shape = self._opened().shape
        first = next(click for click in clicks if click.positive)
        crops = self._policy.first_crops(first, shape, self._spacing)
        looks = [self._look(crop, clicks, None, self._grids.scout) for crop in crops]
        if len(clicks) == 1:
            # Voxels nearer to the click than to the image's faces, along paths without edges. For several clicks
            # this region lowers Dice.
            whole = self._look(whole_crop(shape), clicks, None, self._grids.scout)
            looks.append(replace(whole, geodesic=True))
        answers = yield looks
        region = answers.pop()[0] if len(clicks) == 1 else None
        found = [Answer(clicks, crop, *answer) for crop, answer in zip(crops, answers, strict=True)]
        best = max(found, key=lambda answer: self._rating(answer, region))
        fitted = self._policy.proposal(best.crop, (best.logits > 0).numpy(), clicks, shape) or best.crop
        return (yield from self._answer_on(fitted, clicks, best))

    def _rating(self, answer: Answer, region: Tensor | None) -> float:
        """Rate an answer by its predicted Dice and its crop's size; to a first click, by place and region as well.

        Args:
            answer: to clicks without an answer before.
            region: of a first click, float32 on a grid over the whole image, above 0 inside; None for several clicks.
        """
        shape, rating, mask = self._opened().shape, answer.quality, (answer.logits > 0).numpy()
        if region is not None:
            if self._grids.centred:
                rating *= centrality(mask, answer.crop, answer.clicks[0], self._spacing)
            d, h, w = mask.shape
            here = carry_over(region, whole_crop(shape), answer.crop, (d, h, w), -1.0) > 0
            voxels = float((region > 0).float().mean()) * math.prod(shape)
            rating += _REGION * overlap_with_region(mask, here.numpy(), answer.crop, voxels)
        return rating + size_bonus(answer.crop, shape)

    def _answer_on(self, crop: Crop, clicks: tuple[Click, ...], before: Answer) -> Asking:
        grid = self._grids.full
        carried = carry_over(before.logits, before.crop, crop, grid, _OUTSIDE)
        [(logits, quality)] = yield [self._look(crop, clicks, carried, grid)]
        return Answer(clicks, crop, logits, quality)

    def _answer_of(self, mask: NDArray[np.bool_], clicks: tuple[Click, ...]) -> Answer:
        """Return a mask as an answer: logits of a crop that fits it and the positive clicks."""
        shape = self._opened().shape
        positive = [click for click in clicks if click.positive]
        extent = covered_extent(whole_crop(shape), mask, positive)
        assert extent is not None
        crop = self._policy.fitted(extent, shape)
        share = resample(torch.from_numpy(np.ascontiguousarray(mask[crop])), self._grids.full)
        return Answer(clicks, crop, (share - 0.5) * 2 * _GIVEN, 0.0)

    def _holding(self, crop: Crop, clicks: Sequence[Click]) -> Crop:
        """Return a crop widened to hold positive clicks."""
        extent = [(side.start, side.stop) for side in crop]
        for click in clicks:
            if click.positive:
                extent = [(min(low, at), max(high, at + 1)) for (low, high), at in zip(extent, click.zyx, strict=True)]
        if all((side.start, side.stop) == ends for side, ends in zip(crop, extent, strict=True)):
            return crop
        return self._policy.fitted(extent, self._opened().shape)

    def _look(self, crop: Crop, clicks: Sequence[Click], logits: Tensor | None, grid: Shape) -> Look:
        image = self._opened().crop(crop, grid)
        places = torch.tensor([click.zyx for click in clicks], dtype=torch.float32)
        starts = torch.tensor([side.start for side in crop], dtype=torch.float32)
        lengths = torch.tensor([side.stop - side.start for side in crop], dtype=torch.float32)
        places = (places + 0.5 - starts) / lengths * torch.tensor(grid) - 0.5
        return Look(crop, GridPrompt(image, logits, places, [click.positive for click in clicks]))

    def _opened(self) -> ImagePyramid:
        if self._pyramid is None:
            raise InputError("this session is closed; open another with segmenter.start(image, spacing)")
        return self._pyramid

    def _prediction(self, answer: Answer, started: float) -> Prediction:
        shape = self._opened().shape
        mask = image_mask(answer.logits, answer.crop, shape)
        for click in answer.clicks:
            mask[click.zyx] = click.positive
        preview = _preview(answer.logits, answer.crop, shape)
        encode, self._encode_seconds = self._encode_seconds, 0.0
        return Prediction(mask, preview, Seconds(encode, time.perf_counter() - started))


def image_mask(logits: Tensor, crop: Crop, shape: Shape) -> NDArray[np.bool_]:
    """Return the mask of logits on the image's grid, by linear interpolation; bool (D, H, W).

    Only the extent of positive logits, and one voxel of their grid around it, is interpolated.

    Args:
        logits: float32 (d, h, w), spread evenly over the crop.
        crop: of the image.
        shape: (D, H, W) of the image.
    """
    mask = np.zeros(shape, dtype=bool)
    above = logits > 0
    if not bool(above.any()):
        return mask
    values, into = logits, []
    for axis, side in enumerate(crop):
        covered = above.amax(tuple(other for other in range(3) if other != axis)).nonzero()[:, 0]
        n, length = logits.shape[axis], side.stop - side.start
        low = max(0, int((int(covered[0]) - 0.5) * length / n))
        high = min(length, int((int(covered[-1]) + 1.5) * length / n) + 1)
        into.append(slice(side.start + low, side.start + high))
        values = along_axis(values, axis, axis_weights(n, length)[low:high])
    torch.gt(values, 0, out=torch.from_numpy(mask)[into[0], into[1], into[2]])
    return mask


def _preview(logits: Tensor, crop: Crop, shape: Shape) -> NDArray[np.float32]:
    """Return logits for every slice of the image at a reduced in-plane resolution; far below 0 outside the crop."""
    most = min(_PREVIEW, max(16, math.isqrt(_PREVIEW_VOXELS // shape[0])))
    preview = np.full((shape[0], *(min(n, most) for n in shape[1:])), _FAR, dtype=np.float32)
    into, values = [crop[0]], along_axis(logits, 0, axis_weights(logits.shape[0], crop[0].stop - crop[0].start))
    for axis in (1, 2):
        n, side, have = shape[axis], crop[axis], logits.shape[axis]
        voxels = (np.arange(preview.shape[axis]) + 0.5) * n / preview.shape[axis]
        inside = np.flatnonzero((voxels >= side.start) & (voxels < side.stop))
        nearest = ((voxels[inside] - side.start) / (side.stop - side.start) * have).astype(np.int64)
        values = values.index_select(axis, torch.from_numpy(nearest.clip(0, have - 1)))
        into.append(slice(int(inside[0]), int(inside[-1]) + 1) if len(inside) else slice(0, 0))
    preview[into[0], into[1], into[2]] = values.numpy()
    return preview
