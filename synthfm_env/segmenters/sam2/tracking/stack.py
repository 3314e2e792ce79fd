"""Tracks one stack of slices with SAM 2: from a state and a prompt to the next state."""

from collections.abc import Sequence
from contextlib import AbstractContextManager

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sam2.modeling.sam2_base import NO_OBJ_SCORE
from sam2.utils.misc import concat_points
from torch import Tensor

from synthfm_env.geometry import spread_indices
from synthfm_env.prompts import Prompt
from synthfm_env.segmenters.sam2.slice_context import REACH, SliceContext, context_of
from synthfm_env.segmenters.sam2.slice_memory import StackState
from synthfm_env.segmenters.sam2.tracking.feature_cache import FeatureCache
from synthfm_env.segmenters.sam2.tracking.frames import square_frames
from synthfm_env.segmenters.sam2.tracking.tracker import SliceTracker

MASK_SLICES = 8  # most slices of a mask prompt that become conditioning slices
_UPPER_LEFT, _LOWER_RIGHT = 2, 3  # labels of a box's corners for SAM 2's prompt encoder


class Stack:
    """Slices of an image with their features, without prompts. ``advance`` takes a state and returns the next one.

    Attributes:
        shape: (D, H, W) of the stack.
        tracker: shared by all stacks of a segmenter.
        features: encoded when tracking reaches them.
    """

    def __init__(
        self, tracker: SliceTracker, image: NDArray[np.uint8], budget: int, timer: AbstractContextManager[object]
    ) -> None:
        """Prepare a stack; slices are encoded on demand.

        Args:
            tracker: encodes and tracks slices.
            image: uint8 (D, H, W) or (D, H, W, 3), kept by reference.
            budget: most bytes of encoded slices.
            timer: runs while slices are encoded.
        """
        depth, height, width = image.shape[:3]
        self.shape, self.tracker = (depth, height, width), tracker
        reach = 0 if context_of(tracker.model) == SliceContext() else REACH
        self.features = FeatureCache(image, self._encode, budget, timer, reach)

    def _encode(self, slices: NDArray[np.uint8]) -> list[Tensor]:
        frames = square_frames(slices, self.tracker.model.image_size)
        return self.tracker.encode(frames.to(self.tracker.model.device))

    def condition(self, before: StackState, prompt: Prompt) -> StackState:
        """Return a state in which the slices of a prompt are decoded as conditioning slices; others are unchanged.

        - All clicks on one slice, and a box, are decoded together. The slice's previous mask is fed back.
        - A box becomes two corner points on its middle slice, as in SAM 2's training.
        - A mask prompt is used as the output on its slices, as in SAM 2, and is fed back to clicks and box. Of a mask
          on many slices ``MASK_SLICES`` at equal distances become conditioning slices; the others are tracked.
        """
        # Collect masks and points by slice.
        state = before.copy()
        state.prompts += 1
        state.clicks += prompt.clicks
        masks = {} if prompt.mask is None else self._mask_slices(prompt.mask)
        points: dict[int, list[tuple[float, float, int]]] = {}
        if prompt.box is not None:
            (z0, y0, x0), (z1, y1, x1) = prompt.box.start, prompt.box.stop
            points[(z0 + z1 - 1) // 2] = [(x0, y0, _UPPER_LEFT), (x1 - 1, y1 - 1, _LOWER_RIGHT)]
        for click in prompt.clicks:
            z, y, x = click.zyx
            points.setdefault(z, []).append((x, y, int(click.positive)))
        # Decode masks first, because they are fed back to the points of their slices.
        for z, mask in masks.items():
            state.points.pop(z, None)  # as in stock SAM 2, a mask replaces the points of its slice
            self._decode(before, state, z, mask=mask)
        for z, placed in points.items():
            state.points[z] = self._with_points(state.points.get(z), placed)
            self._decode(before, state, z, points=state.points[z])
        state.newest = tuple({*masks, *points})
        return state

    def _decode(
        self,
        before: StackState,
        state: StackState,
        z: int,
        *,
        points: dict[str, Tensor] | None = None,
        mask: Tensor | None = None,
    ) -> None:
        """Decode one slice with its points or its mask, and make it a conditioning slice of ``state``."""
        previous = state.memory_of(z) if mask is None else None
        state.conditioning[z] = self.tracker.decode_prompted(
            self.features, before, z, points=points, mask=mask, previous=previous
        )
        state.tracked.pop(z, None)

    def _with_points(
        self, points: dict[str, Tensor] | None, placed: Sequence[tuple[float, float, int]]
    ) -> dict[str, Tensor]:
        """Add (x, y, label), in pixels of the image, to the points of a slice."""
        size, device = self.tracker.model.image_size, self.tracker.model.device
        _, height, width = self.shape
        point = torch.tensor([[[x / width * size, y / height * size] for x, y, _ in placed]], device=device)
        label = torch.tensor([[label for _, _, label in placed]], dtype=torch.int32, device=device)
        joined: dict[str, Tensor] = concat_points(points, point, label)
        return joined

    def _mask_slices(self, mask: NDArray[np.bool_]) -> dict[int, Tensor]:
        """Return slices of a mask in SAM 2's form, float32 (1, 1, S, S), by slice."""
        filled = np.flatnonzero(mask.any((1, 2)))
        size, device = self.tracker.model.image_size, self.tracker.model.device
        slices = {}
        for z in filled[spread_indices(len(filled), MASK_SLICES)].tolist():
            native = torch.from_numpy(np.array(mask[z], dtype=np.float32))[None, None].to(device)
            square = F.interpolate(native, (size, size), mode="bilinear", align_corners=False, antialias=True)
            slices[z] = (square >= 0.5).float()
        return slices

    def logits(self, state: StackState) -> Tensor:
        """Return the logits of all slices at the model's mask resolution: float32 (D, 1, h, w), on the model's device.

        Slices without an object have -1024.
        """
        memories = state.memories()
        absent = torch.full_like(next(iter(memories.values())).logits, NO_OBJ_SCORE)
        return torch.cat([memories[z].logits if z in memories else absent for z in range(self.shape[0])]).float()


@torch.inference_mode()
def advance(
    stacks: Sequence[Stack], states: Sequence[StackState], prompts: Sequence[Sequence[Prompt]]
) -> list[StackState]:
    """Apply prompts to each stack in order, and track each stack once after the last prompt.

    In fast mode slices of all stacks go through the model in batches. In exact mode several stacks give the same masks
    as each alone, bit for bit; in fast mode logits differ by the rounding of larger matrix products.

    Args:
        stacks: different stacks of one tracker.
        states: one for each stack; they are not changed.
        prompts: for each stack, in its own voxels; a stack without prompts keeps its state.

    Returns:
        The new states.
    """
    new = list(states)
    for i, (stack, given) in enumerate(zip(stacks, prompts, strict=True)):
        for prompt in given:
            new[i] = stack.condition(new[i], prompt)
    updates = [
        (now, stack.features, before)
        for stack, now, before in zip(stacks, new, states, strict=True)
        if now is not before
    ]
    if updates:
        stacks[0].tracker.propagate(updates)
    return new
