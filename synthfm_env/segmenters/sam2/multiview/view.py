"""A box of an image, seen along all three axes or in all turns, each stack of slices tracked by SAM 2 by itself."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from synthfm_env.prompts import Click
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

    def take(self, position: tuple[int, int, int], positive: bool) -> Click:
        """Return a click of the box on the nearest slice of the stack."""
        place = list(position)
        along = place.pop(self.axis)
        nearest = int(np.abs(self.picked - along).argmin())
        return Click((nearest, *self.turn.place(place[0], place[1], self.size)), positive)

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
            picked = evenly(self._shape[axis], most)
            stack = np.moveaxis(part, axis, 0)[picked]
            height, width = stack.shape[1:3]
            self._stacks += [
                _Stack(axis, picked, (height, width), turn, open_session(turn.lay(stack))) for turn in turns
            ]

    def holds(self, click: Click) -> bool:
        """Tell whether a click of the image lies in the box."""
        return all(side.start <= place < side.stop for place, side in zip(click.zyx, self.box, strict=True))

    def add(self, clicks: Sequence[Click]) -> Tensor:
        """Take clicks of the image that lie in the box, and return what each view says.

        Returns:
            float32 (V, d, h, w), logits of V views, with the box's shape or, along long sides, fewer: twice the pixels
            of a mask.
        """
        z, y, x = (side.start for side in self.box)
        places = [((c.zyx[0] - z, c.zyx[1] - y, c.zyx[2] - x), c.positive) for c in clicks]
        logits = answer_together(
            [stack.session for stack in self._stacks],
            [[stack.take(*place) for place in places] for stack in self._stacks],
        )
        return self._on_grid(logits)

    def views(self) -> Tensor:
        """Return what ``add`` returned last and was not undone."""
        return self._on_grid([stack.session.logits() for stack in self._stacks])

    def _on_grid(self, logits: Sequence[Tensor]) -> Tensor:
        views = torch.empty((len(self._stacks), *self._grid))
        for view, stack, one in zip(views, self._stacks, logits, strict=True):
            view[:] = F.interpolate(stack.give_back(one)[None, None], size=self._grid, mode="trilinear")[0, 0]
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
        """Take back the newest clicks."""
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


def evenly(length: int, most: int) -> NDArray[np.int64]:
    """Return at most ``most`` of ``length`` indices, each from the middle of its share."""
    count = min(length, most)
    return np.floor((np.arange(count) + 0.5) * length / count).astype(np.int64)
