"""Tracks slices with SAM 2: one by one as stock SAM 2, or faster, in batches over sweeps and stacks."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor

from synthfm_env.segmenters.sam2.fast.image_encoder import FastImageEncoder
from synthfm_env.segmenters.sam2.fast.mask_decoder import DecodedSlices, FastMaskDecoder
from synthfm_env.segmenters.sam2.fast.memory_attention import FastMemoryAttention
from synthfm_env.segmenters.sam2.fast.memory_encoder import FastMemoryEncoder
from synthfm_env.segmenters.sam2.fast.precision import autocast, fast_dtype
from synthfm_env.segmenters.sam2.options import MemoryPolicy
from synthfm_env.segmenters.sam2.slice_memory import SliceMemory, SliceStep
from synthfm_env.segmenters.sam2.tracking.preview import interpolate_unvisited, preview_slices
from synthfm_env.segmenters.sam2.tracking.propagation import STOP_AFTER_EMPTY, full_sweeps, propagate, pruned_sweeps
from synthfm_env.segmenters.sam2.tracking.tracker import SliceTracker, Update, stock_memory


class StockTracker(SliceTracker):
    """Tracks every slice after every prompt with ``SAM2Base.track_step``, so masks equal those of stock SAM 2."""

    feature_dtype = torch.float32

    def encode(self, frames: Tensor) -> list[Tensor]:
        """Encode slices; see ``SliceTracker.encode``."""
        levels: list[Tensor] = self.model.forward_image(frames)["backbone_fpn"]
        return levels

    def propagate(self, updates: Sequence[Update]) -> None:
        """Track every stack after a prompt; see ``SliceTracker.propagate``."""
        propagate([sweep for state, features, _ in updates for sweep in full_sweeps(state, features)], self._track)

    def _track(self, steps: Sequence[SliceStep]) -> list[SliceMemory]:
        return [self._track_one(step) for step in steps]

    def _track_one(self, step: SliceStep) -> SliceMemory:
        output = self.track_step(
            step.features, step.state, step.z, is_init_cond_frame=False, track_in_reverse=step.reverse,
            point_inputs=None, mask_inputs=None, run_mem_encoder=True, prev_sam_mask_logits=None,
        )  # fmt: skip
        return stock_memory(output, output["maskmem_features"])


class FastSam2:
    """The four parts of SAM 2 that track a slice, rewritten for speed. Built once for a model.

    Attributes:
        image_encoder: the fast one on CPUs, the model's own on CUDA, where it is as fast.
        memory_attention: conditions a slice on memories, whose keys and values are computed once a click.
        mask_decoder: decodes slices without a prompt.
        memory_encoder: turns masks into memories.
    """

    def __init__(self, model: SAM2Base, policy: MemoryPolicy) -> None:
        """Build the parts; ``policy`` is the choice of memories (``EngineOptions.memory``)."""
        self.dtype = fast_dtype(model.device)
        self.image_encoder = FastImageEncoder(model) if model.device.type == "cpu" else _stock_encoder(model)
        self.memory_attention = FastMemoryAttention(model, policy, self.dtype)
        self.mask_decoder = FastMaskDecoder(model)
        self.memory_encoder = FastMemoryEncoder(model)


class FastTracker(SliceTracker):
    """Tracks slices of several sweeps and stacks in one batch, and skips unchanged slices; see ``propagation``."""

    feature_dtype = torch.float16

    def __init__(self, model: SAM2Base, policy: MemoryPolicy, stop_after_empty: int = STOP_AFTER_EMPTY) -> None:
        super().__init__(model)
        self.parts = FastSam2(model, policy)
        self._lag, self._stop_after_empty = model.num_maskmem - 1, stop_after_empty

    def encode(self, frames: Tensor) -> list[Tensor]:
        """Encode slices; see ``SliceTracker.encode``."""
        with autocast(self.model.device, self.parts.dtype):
            return [level.to(self.feature_dtype) for level in self.parts.image_encoder(frames)]

    def propagate(self, updates: Sequence[Update]) -> None:
        """Track every stack after a prompt; see ``SliceTracker.propagate``."""
        with self._one_prompt():
            # 1. Preview every third slice of each stack.
            previews = preview_slices(updates, self._redecode)
            # 2. Sweep through all stacks at once.
            by_stack = [
                pruned_sweeps(*update, of_stack, self._lag, self._stop_after_empty)
                for update, of_stack in zip(updates, previews, strict=True)
            ]
            propagate([sweep for sweeps in by_stack for sweep in sweeps], self._track)
            # 3. Interpolate the slices that neither visited.
            for (state, _, before), of_stack, sweeps in zip(updates, previews, by_stack, strict=True):
                if of_stack is not None:
                    interpolate_unvisited(state, before, set(of_stack).union(*(sweep.visited for sweep in sweeps)))

    @contextmanager
    def _one_prompt(self) -> Iterator[None]:
        """Keep cached keys and values, and weights cast by autocast, for the time of one prompt."""
        with autocast(self.model.device, self.parts.dtype):
            try:
                yield
            finally:
                self.parts.memory_attention.forget()

    def _track(self, steps: Sequence[SliceStep]) -> list[SliceMemory]:
        """Track slices: decode their masks and encode them as memories."""
        coarse, decoded = self._decode(steps)
        features = self.parts.memory_encoder(coarse, decoded.masks, decoded.scores)
        return [decoded.memory(i, features[i : i + 1]) for i in range(len(steps))]

    def _redecode(self, steps: Sequence[SliceStep]) -> list[SliceMemory]:
        """Preview slices: decode their masks and keep their earlier memory features."""
        _, decoded = self._decode(steps)
        return [decoded.memory(i, step.state.tracked[step.z].features) for i, step in enumerate(steps)]

    def _decode(self, steps: Sequence[SliceStep]) -> tuple[Tensor, DecodedSlices]:
        levels = [step.features.maps(step.z) for step in steps]
        fine, middle, coarse = (torch.cat(level) for level in zip(*levels, strict=True))
        conditioned = self.parts.memory_attention(coarse, steps)
        return coarse, self.parts.mask_decoder(conditioned, fine, middle)


def _stock_encoder(model: SAM2Base) -> Any:
    return lambda frames: model.forward_image(frames)["backbone_fpn"]
