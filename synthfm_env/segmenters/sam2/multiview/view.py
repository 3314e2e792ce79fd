"""A box of an image, seen along all three axes or in all turns, each stack of slices tracked by SAM 2 by itself."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from synthfm_env.geometry import spread_indices
from synthfm_env.prompts import Box as BoxPrompt
from synthfm_env.prompts import Click, Prompt
from synthfm_env.segmenters.click_distances import LUMA
from synthfm_env.segmenters.sam2.multiview.orientation import ALL_TURNS, AS_IT_IS, Turn
from synthfm_env.segmenters.sam2.tracking.stack_session import SAM2Session, answer_together

Box = tuple[slice, slice, slice]

# Beyond it a model is sure; without it one plane that is wrong and sure would outvote two that are right.
_SUREST = 8.0
# Planes across the slices need some slices to show a shape.
FEWEST_SLICES = 8
# Slices along an axis, at most, for each pixel along a mask's side: more of them change little.
_DENSITY = 2 / 3
_OVERVIEW = 0.6  # of these are enough to find an object


class _Stack(NamedTuple):
    """One view: the axis, which slices of the box along it, how each of them is laid, and who sees them."""

    axis: int
    picked: NDArray[np.int64]
    size: tuple[int, int]
    turn: Turn
    session: SAM2Session

    def take(self, prompt: Prompt, crop: Box) -> Prompt | None:
        """Return a prompt of the image as this stack sees it, or None if nothing of it can be seen along its axis.

        Clicks and a box go to the nearest slice, the box to the one nearest its middle. A box or a mask of one slice
        is a line to planes across the slices, so they leave it out.
        """
        clicks = tuple(Click(self._place(click.zyx, crop), click.positive) for click in prompt.clicks)
        box = None
        if prompt.box is not None and (self.axis == 0 or prompt.box.thickness > 1):
            box = self._flat_box(prompt.box, crop)
        mask = None
        if prompt.mask is not None and (self.axis == 0 or BoxPrompt.around(prompt.mask).thickness > 1):
            mask = self._cut(prompt.mask[crop])
        return Prompt(clicks, box, mask) if clicks or box is not None or mask is not None else None

    def _place(self, zyx: tuple[int, int, int], crop: Box) -> tuple[int, int, int]:
        """Return the place in the stack of a voxel of the image."""
        place = [i - side.start for i, side in zip(zyx, crop, strict=True)]
        nearest = self._nearest(place.pop(self.axis))
        return (nearest, *self.turn.place(place[0], place[1], self.size))

    def _nearest(self, along: float) -> int:
        return int(np.abs(self.picked - along).argmin())

    def _flat_box(self, box: BoxPrompt, crop: Box) -> BoxPrompt:
        """Return the sides of a box on the slice of the stack that is nearest to its middle."""
        z, y, x = (stop - 1 for stop in box.stop)
        corners = np.sort([self._place(box.start, crop), self._place((z, y, x), crop)], axis=0)
        middle = (box.start[self.axis] + box.stop[self.axis] - 1) // 2 - crop[self.axis].start
        corners[:, 0] = self._nearest(middle)
        (z0, y0, x0), (z1, y1, x1) = corners.tolist()
        return BoxPrompt((z0, y0, x0), (z1 + 1, y1 + 1, x1 + 1))

    def _cut(self, part: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return the slices of a mask that the stack has; if it has none, the middle one on the nearest that it has."""
        whole = np.moveaxis(part, self.axis, 0)
        cut = whole[self.picked]
        if not cut.any():
            filled = np.flatnonzero(whole.any((1, 2)))
            middle = int(filled[len(filled) // 2])
            cut[self._nearest(middle)] = whole[middle]
        return self.turn.lay(cut)

    def give_back(self, logits: Tensor) -> Tensor:
        """Return logits of the stack, none surer than ``_SUREST``, with the axes of the box."""
        return torch.movedim(self.turn.back(logits.clamp(-_SUREST, _SUREST)), 0, self.axis)


class Planes:
    """SAM 2 sees a box along z, y and x; unless it is refined, what it says of a voxel is the mean of the views.

    An object that a click meets on one slice along z is cut by the same click lengthwise along y and x, so the
    model sees where it ends instead of following it too far. Each axis has at most two thirds as many slices as a mask
    has pixels along its side, so the cost of a click has a bound, whatever the size of the volume.

    An image, or a stack of a few slices, has nothing to see along y and x. It is seen along z in all eight turns
    instead: SAM 2 sees a shape differently when it is laid differently, and the mean errs less.

    Attributes:
        box: the part of the image that is seen.
        sparse: whether fewer slices are seen than a view that is no overview would see.
    """

    def __init__(
        self,
        open_session: Callable[[NDArray[np.uint8]], SAM2Session],
        image: NDArray[np.uint8],
        box: Box,
        *,
        planes: int,
        side: int,
        overview: bool = False,
    ) -> None:
        """Open the sessions, encode nothing yet.

        Args:
            open_session: opens a session on a stack, uint8 (D, H, W) or (D, H, W, 3).
            image: uint8 (D, H, W) or (D, H, W, 3), the whole.
            box: the part to see.
            planes: 1 for slices along z alone as they are, 3 for more views.
            side: pixels along a mask's side.
            overview: see fewer slices: enough to find an object.
        """
        self.box = box
        most = round(side * _DENSITY * (_OVERVIEW if overview else 1))
        self._part = part = image[box]
        self._grey: Tensor | None = None
        self._shape = part.shape[:3]
        self._grid = tuple(min(n, 2 * side) for n in self._shape)
        axes: tuple[int, ...] = (0,)
        turns: tuple[Turn, ...] = (AS_IT_IS,)
        if planes == 3 and min(self._shape) >= FEWEST_SLICES:
            axes = (0, 1, 2)
        elif planes == 3 and self._shape[0] < FEWEST_SLICES:
            turns = ALL_TURNS
        self.sparse = overview and max(self._shape[axis] for axis in axes) > most
        self._stacks = []
        for axis in axes:
            picked = spread_indices(self._shape[axis], most)
            stack = np.moveaxis(part, axis, 0)[picked]
            height, width = stack.shape[1:3]
            self._stacks += [
                _Stack(axis, picked, (height, width), turn, open_session(turn.lay(stack))) for turn in turns
            ]

    def holds(self, click: Click) -> bool:
        """Tell whether a click of the image lies in the box."""
        return all(side.start <= place < side.stop for place, side in zip(click.zyx, self.box, strict=True))

    def part_of(self, prompt: Prompt) -> Prompt | None:
        """Return what of a prompt is inside the box, None for nothing; a box or a mask counts as a whole or not."""
        clicks = tuple(click for click in prompt.clicks if self.holds(click))
        box = prompt.box if prompt.box is not None and self._holds_box(prompt.box) else None
        mask = prompt.mask if prompt.mask is not None and self._holds_box(BoxPrompt.around(prompt.mask)) else None
        return Prompt(clicks, box, mask) if clicks or box is not None or mask is not None else None

    def _holds_box(self, box: BoxPrompt) -> bool:
        sides = zip(box.start, box.stop, self.box, strict=True)
        return all(side.start <= first and last <= side.stop for first, last, side in sides)

    def add(self, prompts: Sequence[Prompt]) -> Tensor:
        """Take prompts of the image that are inside the box, see ``part_of``, and return each view's logits.

        A view that no prompt so far can be seen in is left out.

        Returns:
            float32 (V, d, h, w), logits of V views, with the box's shape or, along long sides, fewer: twice the pixels
            of a mask.
        """
        taken = [[stack.take(prompt, self.box) for prompt in prompts] for stack in self._stacks]
        answer_together(
            [stack.session for stack in self._stacks], [[one for one in its if one is not None] for its in taken]
        )
        return self.views()

    def views(self) -> Tensor:
        """Return what ``add`` returned last and was not undone."""
        prompted = [stack for stack in self._stacks if stack.session.prompted]
        views = torch.empty((len(prompted), *self._grid))
        for view, stack in zip(views, prompted, strict=True):
            logits = stack.give_back(stack.session.logits())
            view[:] = F.interpolate(logits[None, None], size=self._grid, mode="trilinear")[0, 0]
        return views

    def grey(self) -> Tensor:
        """Return the image on the grid of the logits: float32 (d, h, w), mean grey levels, 0 to 255."""
        if self._grey is None:
            height, width = self._grid[1:]
            slices = torch.empty((len(self._part), height, width))
            for z, one in enumerate(self._part):  # by slice: no float copy of a large box
                grey = one if one.ndim == 2 else one @ LUMA
                slices[z] = F.adaptive_avg_pool2d(torch.from_numpy(grey.astype(np.float32))[None], (height, width))[0]
            self._grey = F.adaptive_avg_pool3d(slices[None], self._grid)[0]
        return self._grey

    def undo(self) -> None:
        """Take back the prompts of the newest ``add``."""
        for stack in self._stacks:
            stack.session.undo()

    def reset(self) -> None:
        """Forget all clicks, keep the encoded slices."""
        for stack in self._stacks:
            stack.session.reset()

    @property
    def encode_seconds(self) -> float:
        """Seconds spent on encoding so far."""
        return sum(stack.session.encode_seconds for stack in self._stacks)

    def rest(self) -> None:
        """Drop what the encoder made; it is made again, the same, when it is needed."""
        for stack in self._stacks:
            stack.session.drop_features()

    def close(self) -> None:
        """Free the sessions."""
        for stack in self._stacks:
            stack.session.close()
