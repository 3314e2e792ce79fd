"""Tracks a crop of an image with SAM 2 along several axes or in several orientations."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from synthfm_env.geometry import FEWEST_SLICES, Crop, spread_indices
from synthfm_env.prompts import Box, Click, Prompt
from synthfm_env.segmenters.sam2.multiview.confidence import CERTAIN_LOGIT
from synthfm_env.segmenters.sam2.multiview.orientation import ALL_ORIENTATIONS, IDENTITY, Orientation
from synthfm_env.segmenters.sam2.slice_memory import StackState
from synthfm_env.segmenters.sam2.tracking.stack import Stack, advance
from synthfm_env.volumes.intensity import LUMA

_SLICES_PER_PIXEL = 2 / 3  # slices along an axis, at most, per pixel of a mask's side; more change little
_OVERVIEW = 0.6  # share of those slices in an overview, which suffices to find an object

States = tuple[StackState, ...]


class _View(NamedTuple):
    """One stack of slices of a crop.

    Attributes:
        axis: of the crop, across the slices.
        picked: indices of the slices along the axis.
        size: (height, width) of a slice.
        orientation: of the slices in the stack.
        stack: tracks the slices.
    """

    axis: int
    picked: NDArray[np.int64]
    size: tuple[int, int]
    orientation: Orientation
    stack: Stack

    def prompt_in_stack(self, prompt: Prompt, crop: Crop) -> Prompt | None:
        """Return a prompt of the image in voxels of the stack, or None if the stack can show no part of it.

        A click goes to the nearest slice, a box to the one nearest to its middle. Stacks along y and x leave out a box
        or a mask of one slice, which is only a line in them.
        """
        clicks = tuple(Click(self._place(click.zyx, crop), click.positive) for click in prompt.clicks)
        box = None
        if prompt.box is not None and (self.axis == 0 or prompt.box.thickness > 1):
            box = self._flat_box(prompt.box, crop)
        mask = None
        if prompt.mask is not None and (self.axis == 0 or Box.around(prompt.mask).thickness > 1):
            mask = self._cut(prompt.mask[crop])
        return Prompt(clicks, box, mask) if clicks or box is not None or mask is not None else None

    def _place(self, zyx: tuple[int, int, int], crop: Crop) -> tuple[int, int, int]:
        """Return the voxel of the stack that is nearest to a voxel of the image."""
        place = [i - side.start for i, side in zip(zyx, crop, strict=True)]
        nearest = self._nearest(place.pop(self.axis))
        return (nearest, *self.orientation.apply_to_pixel(place[0], place[1], self.size))

    def _nearest(self, along: float) -> int:
        return int(np.abs(self.picked - along).argmin())

    def _flat_box(self, box: Box, crop: Crop) -> Box:
        """Return a box as a 2D box on the slice of the stack nearest to its middle."""
        z, y, x = (stop - 1 for stop in box.stop)
        corners = np.sort([self._place(box.start, crop), self._place((z, y, x), crop)], axis=0)
        middle = (box.start[self.axis] + box.stop[self.axis] - 1) // 2 - crop[self.axis].start
        corners[:, 0] = self._nearest(middle)
        (z0, y0, x0), (z1, y1, x1) = corners.tolist()
        return Box((z0, y0, x0), (z1 + 1, y1 + 1, x1 + 1))

    def _cut(self, part: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return a mask on the slices of the stack. If it is empty there, its middle slice goes to the nearest one."""
        native = np.moveaxis(part, self.axis, 0)
        cut = native[self.picked]
        if not cut.any():
            filled = np.flatnonzero(native.any((1, 2)))
            middle = int(filled[len(filled) // 2])
            cut[self._nearest(middle)] = native[middle]
        return self.orientation.apply(cut)

    def logits_in_crop(self, logits: Tensor) -> Tensor:
        """Return logits (D, h, w) of the stack with the axes of the crop, clamped to ``CERTAIN_LOGIT``."""
        return torch.movedim(self.orientation.invert(logits.clamp(-CERTAIN_LOGIT, CERTAIN_LOGIT)), 0, self.axis)


class MultiView:
    """Tracks a crop of an image along z, y and x with SAM 2. Callers average the logits of the three views.

    Slices along y and x through the click cut the object lengthwise, so they show where it ends along z; tracking along
    z alone often follows it too far. Each axis has at most two thirds as many slices as a mask has pixels along its
    side, so the cost of a click is bounded for volumes of every size.

    An image, or a stack of fewer than eight slices, shows no shapes along y and x. It is tracked along z in all eight
    orientations instead: SAM 2's errors depend on the orientation, and the mean has fewer.

    A view keeps no prompts: ``track`` takes the states of its stacks and returns new ones.

    Attributes:
        crop: of the image.
        sparse: an overview with fewer slices than a full view of the crop would have.
    """

    def __init__(
        self,
        open_stack: Callable[[NDArray[np.uint8]], Stack],
        image: NDArray[np.uint8],
        crop: Crop,
        *,
        planes: int,
        side: int,
        overview: bool = False,
    ) -> None:
        """Cut the stacks; slices are encoded when they are tracked.

        Args:
            open_stack: makes a stack of slices, uint8 (D, H, W) or (D, H, W, 3).
            image: uint8 (D, H, W) or (D, H, W, 3), the whole one.
            crop: of the image.
            planes: 1 for the slices along z alone, 3 for several axes or orientations.
            side: pixels along a mask's side.
            overview: whether to cut fewer slices, enough to find an object.
        """
        self.crop = crop
        most = round(side * _SLICES_PER_PIXEL * (_OVERVIEW if overview else 1))
        self._part = part = image[crop]
        self._grey: Tensor | None = None
        depth, height, width = part.shape[:3]
        self._shape = (depth, height, width)
        self._grid = (min(depth, 2 * side), min(height, 2 * side), min(width, 2 * side))
        # Choose axes or orientations by the shape of the crop.
        axes: tuple[int, ...] = (0,)
        orientations: tuple[Orientation, ...] = (IDENTITY,)
        if planes == 3 and min(self._shape) >= FEWEST_SLICES:
            axes = (0, 1, 2)
        elif planes == 3 and depth < FEWEST_SLICES:
            orientations = ALL_ORIENTATIONS
        self.sparse = overview and max(self._shape[axis] for axis in axes) > most
        # Cut one stack for each.
        self._views: list[_View] = []
        for axis in axes:
            picked = spread_indices(self._shape[axis], most)
            slices = np.moveaxis(part, axis, 0)[picked]
            size = (slices.shape[1], slices.shape[2])
            for orientation in orientations:
                self._views.append(_View(axis, picked, size, orientation, open_stack(orientation.apply(slices))))
        self.start: States = tuple(StackState() for _ in self._views)

    def holds(self, click: Click) -> bool:
        """Return True if a click of the image is inside the crop."""
        return all(side.start <= place < side.stop for place, side in zip(click.zyx, self.crop, strict=True))

    def part_of(self, prompt: Prompt) -> Prompt | None:
        """Return the part of a prompt inside the crop, or None. A box or mask partly outside is left out."""
        clicks = tuple(click for click in prompt.clicks if self.holds(click))
        box = prompt.box if prompt.box is not None and self._holds_box(prompt.box) else None
        mask = prompt.mask if prompt.mask is not None and self._holds_box(Box.around(prompt.mask)) else None
        return Prompt(clicks, box, mask) if clicks or box is not None or mask is not None else None

    def _holds_box(self, box: Box) -> bool:
        sides = zip(box.start, box.stop, self.crop, strict=True)
        return all(side.start <= first and last <= side.stop for first, last, side in sides)

    def track(self, states: States, prompts: Sequence[Prompt]) -> States:
        """Propagate prompts through every stack.

        Args:
            states: of the stacks; ``start`` before the first prompt.
            prompts: of the image; parts outside the crop are left out.

        Returns:
            The new states.
        """
        inside = [part for part in map(self.part_of, prompts) if part is not None]
        in_stacks = [
            [given for given in (view.prompt_in_stack(part, self.crop) for part in inside) if given is not None]
            for view in self._views
        ]
        return tuple(advance([view.stack for view in self._views], states, in_stacks))

    def logits(self, states: States) -> Tensor:
        """Return the logits of every view that has a prompt.

        Returns:
            float32 (V, d, h, w) of V views, on the CPU. (d, h, w) is the shape of the crop, but at most twice as many
            voxels along a side as a mask has pixels.
        """
        prompted = [(view, state) for view, state in zip(self._views, states, strict=True) if state.prompts]
        logits = torch.empty((len(prompted), *self._grid))
        for into, (view, state) in zip(logits, prompted, strict=True):
            in_crop = view.logits_in_crop(view.stack.logits(state)[:, 0].cpu())
            into[:] = F.interpolate(in_crop[None, None], size=self._grid, mode="trilinear")[0, 0]
        return logits

    def grey(self) -> Tensor:
        """Return the crop on the grid of the logits: float32 (d, h, w), mean grey levels, 0 to 255."""
        if self._grey is None:
            height, width = self._grid[1:]
            slices = torch.empty((len(self._part), height, width))
            for z, pixels in enumerate(self._part):  # slice by slice, to avoid a float copy of a large crop
                grey = pixels if pixels.ndim == 2 else pixels @ LUMA
                slices[z] = F.adaptive_avg_pool2d(torch.from_numpy(grey.astype(np.float32))[None], (height, width))[0]
            self._grey = F.adaptive_avg_pool3d(slices[None], self._grid)[0]
        return self._grey

    def drop_features(self) -> None:
        """Drop the encoded slices. They are encoded again, to the same values, on demand."""
        for view in self._views:
            view.stack.features.clear()
