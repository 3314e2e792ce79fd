"""One structure in one volume, seen along several planes, close up, and from its clicks."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from synthfm_env.errors import InputError
from synthfm_env.geometry import spread_indices
from synthfm_env.metrics import dice
from synthfm_env.prompts import Box as BoxPrompt
from synthfm_env.prompts import Click, Prompt
from synthfm_env.segmenters.base import Prediction, Seconds, Session
from synthfm_env.segmenters.click_distances import ClickDistances
from synthfm_env.segmenters.sam2.multiview.click_prior import evidence
from synthfm_env.segmenters.sam2.multiview.refiner import Draft
from synthfm_env.segmenters.sam2.multiview.view import FEWEST_SLICES, Box, Planes

_MARGIN = 0.4  # of the object's side, on either side of it
_LEAST_MARGIN = 4  # voxels
_SMALLER = 0.4  # a new box must leave out more than half of the old one: it has to be encoded, and all clicks repeated
_LOOKS = 2  # boxes drawn after a click, at most: the first may be drawn around a mask that was seen badly
_KEPT = 0.5  # of what was seen before must a closer view keep
_OUTGROWN = 1.5  # an object so many times larger than the box shows it has been lost close up
_INSISTING = 2  # clicks of one kind in a row
_HALF = 0.5  # of its box is what a volume may keep where negative clicks insist, or it stays as it is
_FAR = -32.0  # logit outside the box
_LOGITS = 128  # most pixels along a side of the logits that are handed out


@dataclass(frozen=True, slots=True)
class _Moment:
    """What holds after a prompt.

    Attributes:
        prompts: so far.
        planes: the view.
        answers: how many times the view has answered.
        logits: of the box.
    """

    prompts: tuple[Prompt, ...]
    planes: Planes
    answers: int
    logits: Tensor

    @property
    def clicks(self) -> tuple[Click, ...]:
        """All clicks so far, oldest first."""
        return tuple(click for prompt in self.prompts for click in prompt.clicks)


class ZoomSession(Session):
    """Clicks on one structure, answered from a view of it that follows its size.

    The first click is answered on an overview of the whole image. A box around that mask, with a margin, is then cut
    out, fed to the model at its full resolution, and the clicks are repeated there: SAM 2's masks have a quarter of the
    model's resolution, and small organs fall through it. The box is drawn again when a positive click falls outside
    it, when the mask reaches its side, or when the mask has become much smaller. Negative clicks outside it change
    nothing that is seen: nothing is predicted there. Distances to them may take some of the mask away.

    SAM 2 takes a click for a remark about its neighbourhood. Where two of one kind in a row say that the object is
    another one, larger in an image or thin stack, smaller in a volume, the view is changed (``_from_afar``,
    ``_from_near``).
    """

    def __init__(
        self,
        open_planes: Callable[[Box, bool], Planes],
        shape: tuple[int, int, int],
        *,
        zoom: bool,
        measure: Callable[[], ClickDistances] | None,
        refine: Callable[[Draft], Tensor] | None,
    ) -> None:
        """Take an image, encode nothing yet.

        Args:
            open_planes: views a box of it, fully or as an overview.
            shape: (D, H, W) of it.
            zoom: without it every click is answered on the whole image.
            measure: prepares distances to its clicks, whose evidence is added to the view's; None for the view alone.
            refine: makes final logits of a draft that view and distances gave; None leaves the draft as it is. So do
                images and thin stacks, where it was no better.
        """
        self._open, self._shape, self._zoom = open_planes, shape, zoom
        self._measure, self._refine = measure, refine
        self._distances: ClickDistances | None = None
        self._whole = open_planes((slice(0, shape[0]), slice(0, shape[1]), slice(0, shape[2])), zoom)
        self._history: list[_Moment] = []
        self._closed = False

    @property
    def clicks(self) -> tuple[Click, ...]:
        """The clicks in force, oldest first."""
        return self._history[-1].clicks if self._history else ()

    def _check_open(self) -> None:
        if self._closed:
            raise InputError("this session is closed; open another with segmenter.start(image, spacing)")

    def add(self, click: Click) -> Prediction:
        """Take one more click; see ``Session.add``."""
        return self.prompt((click,))

    @torch.inference_mode()
    def prompt(
        self, clicks: Sequence[Click] = (), *, box: BoxPrompt | None = None, mask: NDArray[np.bool_] | None = None
    ) -> Prediction:
        """Take several prompts at once; see ``Session.prompt`` and ``SAM2Session.prompt`` for each view's share.

        The crop holds box and mask. Distances to clicks and the refiner join in as soon as there is a positive click.
        """
        self._check_open()
        prompt = Prompt(tuple(clicks), box, mask)
        prompt.check(self._shape)
        started = time.perf_counter()
        encode = self._prepare()
        before = self._history[-1] if self._history else None
        planes = before.planes if before else self._whole
        encoded = planes.encode_seconds
        part = planes.part_of(prompt)
        views = planes.add([part]) if part else planes.views()
        encode += planes.encode_seconds - encoded
        try:
            if self._distances:
                for click in prompt.clicks:
                    self._distances.add(click)
            prompts = (*(before.prompts if before else ()), prompt)
            moment = self._moment(prompts, planes, (before.answers if before else 0) + bool(part), views)
            closer, spent = self._look_closer(moment) if self._zoom else (None, 0.0)
        except BaseException:
            if part:
                planes.undo()
            self._forget_distances()
            raise
        if closer is not None:
            # The view before stays as it was before this prompt, for undo.
            if part:
                planes.undo()
            planes.rest()
            encode += spent
            moment = closer
        self._history.append(moment)
        native, shown = self._native(moment)
        return Prediction(native, shown, Seconds(encode, time.perf_counter() - started - encode))

    def _forget_distances(self) -> None:
        """Take back distances to clicks that are not, or no longer, in force."""
        while self._distances and len(self._distances.clicks) > len(self.clicks):
            self._distances.undo()

    def _prepare(self) -> float:
        """Prepare the distances before the first click, and return the seconds that took."""
        if self._distances or not self._measure:
            return 0.0
        started = time.perf_counter()
        self._distances = self._measure()
        return time.perf_counter() - started

    def _moment(self, prompts: tuple[Prompt, ...], planes: Planes, answers: int, views: Tensor) -> _Moment:
        clicks = tuple(click for prompt in prompts for click in prompt.clicks)
        region = any(prompt.box is not None or prompt.mask is not None for prompt in prompts)
        if not self._distances or (region and not any(click.positive for click in clicks)):
            return _Moment(prompts, planes, answers, views.mean(0))
        depth, height, width = views.shape[1:]
        says = evidence(self._distances, planes.box, (depth, height, width))
        if not self._refine or self._shape[0] < FEWEST_SLICES:
            return _Moment(prompts, planes, answers, views.mean(0) + says.logits)
        spread = torch.stack((views.mean(0), views.amin(0), views.amax(0)))
        draft = Draft(planes.box, spread, says, planes.grey(), clicks)
        return _Moment(prompts, planes, answers, self._refine(draft))

    def _look_closer(self, moment: _Moment) -> tuple[_Moment | None, float]:
        """Answer from a box that fits the mask better, where there is one; and tell the seconds of encoding."""
        best = None
        if self._insists(moment.clicks, positive=True):
            best = self._from_afar(moment)
        elif self._insists(moment.clicks, positive=False):
            best = self._from_near(moment)
        seconds = best.planes.encode_seconds if best else 0.0
        for _ in range(_LOOKS):
            closer = self._redrawn(best or moment)
            if closer is None:
                break
            seconds += closer.planes.encode_seconds
            if best is not None:
                best.planes.close()
            best = closer
        return best, seconds

    def _insists(self, clicks: tuple[Click, ...], *, positive: bool) -> bool:
        """Tell whether the last clicks said that there is more, across few slices, or less, across many."""
        if (self._shape[0] < FEWEST_SLICES) is not positive or len(clicks) <= _INSISTING:
            return False
        return all(click.positive is positive for click in clicks[-_INSISTING:])

    def _from_afar(self, moment: _Moment) -> _Moment | None:
        """Answer all clicks on the whole again, where that shows that the box holds a small part of the object."""
        if moment.planes is self._whole:
            return None
        planes = self._open(self._whole.box, True)
        afar = self._moment(moment.prompts, planes, 1, planes.add(moment.prompts))
        if int(self._native(afar)[0].sum()) > _OUTGROWN * int(self._native(moment)[0].sum()):
            return afar
        planes.close()
        return None

    def _from_near(self, moment: _Moment) -> _Moment | None:
        """Answer from a box around what the view and the distances to the clicks both take for the object.

        Seen among much else, a small object is answered with what it lies in, and each negative click dents that. The
        close view must find the object again.
        """
        if not self._distances:
            return None
        agreed = self._native(moment)[0] & self._distances.grid.positive(self._distances.balance)
        seen = moment.planes.box
        box, _ = self._around(torch.from_numpy(agreed[seen]), seen, moment.prompts)
        if box is None or _volume(box) >= _HALF * _volume(seen):
            return None
        near = self._answered(box, moment.prompts)
        if int((self._native(near)[0] & agreed).sum()) >= _KEPT * int(agreed.sum()):
            return near
        near.planes.close()
        return None

    def _answered(self, box: Box, prompts: tuple[Prompt, ...]) -> _Moment:
        """Answer the prompts in a box, fully seen."""
        planes = self._open(box, False)
        parts = [planes.part_of(prompt) for prompt in prompts]
        return self._moment(prompts, planes, 1, planes.add([part for part in parts if part is not None]))

    def _redrawn(self, moment: _Moment) -> _Moment | None:
        box = self._wanted(moment)
        if box is None:
            return None
        closer = self._answered(box, moment.prompts)
        if self._loses(moment, closer):
            # What was seen from afar is better than nothing.
            closer.planes.close()
            return None
        return closer

    def _loses(self, afar: _Moment, close: _Moment) -> bool:
        """Tell whether the object was lost close up; in an image or thin stack also whether most of it was.

        Close to a large, textured object the model may take a piece of it for the whole. Three planes correct each
        other; turns of one image do not, but distances to the clicks may side with the close view, as where a cell was
        seen as its cluster.
        """
        if not bool((close.logits > 0).any()):
            return True
        if self._shape[0] >= FEWEST_SLICES:
            return False
        before, after = self._native(afar)[0], self._native(close)[0]
        if int((before & after).sum()) >= _KEPT * int(before.sum()):
            return False
        if not self._distances:
            return True
        likely = self._distances.grid.positive(self._distances.balance)
        return dice(after, likely) < dice(before, likely)

    def _wanted(self, moment: _Moment) -> Box | None:
        """Return a box that fits the mask and the positive clicks better than the one at hand, or None."""
        box, reaches = self._around(moment.logits > 0, moment.planes.box, moment.prompts)
        if box is None:
            return None
        smaller = _volume(box) < _SMALLER * _volume(moment.planes.box)
        return box if moment.planes.sparse or reaches or smaller else None

    def _around(self, mask: Tensor, seen: Box, prompts: tuple[Prompt, ...]) -> tuple[Box | None, bool]:
        """Return a box with a margin around a mask and all that was given, negative clicks aside; None without either.

        Args:
            mask: bool, spread evenly over the box ``seen``.
            seen: a part of the image.
            prompts: so far.

        Returns:
            The box, and whether mask or prompts reach a side of ``seen`` where the image goes on.
        """
        positive = np.array([place for prompt in prompts for place in _extent(prompt)]).reshape(-1, 3)
        if not bool(mask.any()) or not len(positive):
            return None, False
        sides, reaches = [], False
        for axis, (side, length) in enumerate(zip(seen, self._shape, strict=True)):
            covered = torch.nonzero(mask.any(dim=tuple(other for other in range(3) if other != axis)))
            scale = (side.stop - side.start) / mask.shape[axis]
            first = side.start + math.floor(int(covered[0]) * scale)
            last = side.start + math.ceil((int(covered[-1]) + 1) * scale)
            first, last = min(first, *positive[:, axis]), max(last, *(positive[:, axis] + 1))
            reaches |= (first <= side.start and side.start > 0) or (last >= side.stop and side.stop < length)
            margin = max(_LEAST_MARGIN, round(_MARGIN * (last - first)))
            sides.append(slice(int(max(0, first - margin)), int(min(length, last + margin))))
        z, y, x = sides
        return (z, y, x), reaches

    def undo(self) -> Prediction:
        """Take back the newest prompt; see ``Session.undo``."""
        self._check_open()
        if not self._history:
            raise InputError("session.undo(): there is no click to take back")
        started = time.perf_counter()
        gone = self._history.pop()
        self._forget_distances()
        if not self._history:
            self._forget(gone)
            return Prediction(np.zeros(self._shape, dtype=bool), None, Seconds(0.0, 0.0))
        now = self._history[-1]
        if gone.planes is not now.planes:
            gone.planes.close()
        elif gone.answers > now.answers:
            gone.planes.undo()
        mask, shown = self._native(now)
        return Prediction(mask, shown, Seconds(0.0, time.perf_counter() - started))

    def reset(self) -> None:
        """Forget all clicks, keep the encoded image."""
        self._check_open()
        for moment in self._history:
            self._forget(moment)
        self._history = []
        if self._distances:
            self._distances.reset()

    def _forget(self, moment: _Moment) -> None:
        if moment.planes is not self._whole:
            moment.planes.close()
        self._whole.reset()

    def close(self) -> None:
        """Free the views and all masks."""
        self._closed = True
        for planes in (self._whole, *(moment.planes for moment in self._history)):
            planes.close()
        self._history = []
        self._distances = None

    def _native(self, moment: _Moment) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Bring a box's logits to the image's grid, some slices at a time: the mask, and logits of fewer pixels."""
        z, y, x = moment.planes.box
        size = (y.stop - y.start, x.stop - x.start)
        mask = np.zeros(self._shape, dtype=bool)
        rows, columns = (spread_indices(n, _LOGITS) for n in self._shape[1:])
        shown = np.full((self._shape[0], len(rows), len(columns)), _FAR, dtype=np.float32)
        at = np.ix_((rows >= y.start) & (rows < y.stop), (columns >= x.start) & (columns < x.stop))
        picked = np.ix_(rows[at[0][:, 0]] - y.start, columns[at[1][0]] - x.start)
        depth = (z.stop - z.start, *moment.logits.shape[1:])
        along = F.interpolate(moment.logits[None, None], size=depth, mode="trilinear")[0]
        for low in range(0, depth[0], 16):
            full = F.interpolate(along[:, low : low + 16], size=size, mode="bilinear")[0].numpy()
            into = slice(z.start + low, z.start + low + len(full))
            mask[into, y, x] = full > 0
            shown[into][:, *at] = full[:, *picked]
        if self._distances:
            self._distances.obey(mask)
        return mask, shown


def _extent(prompt: Prompt) -> list[tuple[int, int, int]]:
    """Return voxels of the image that a crop must hold: positive clicks, and the corners of a box and of a mask."""
    boxes = [prompt.box] if prompt.box is not None else []
    boxes += [BoxPrompt.around(prompt.mask)] if prompt.mask is not None else []
    corners = [place for box in boxes for place in (box.start, (box.stop[0] - 1, box.stop[1] - 1, box.stop[2] - 1))]
    return [click.zyx for click in prompt.clicks if click.positive] + corners


def _volume(box: Box) -> int:
    return math.prod(side.stop - side.start for side in box)
