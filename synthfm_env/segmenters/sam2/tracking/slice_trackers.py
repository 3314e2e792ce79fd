"""Tracks single slices with SAM 2: the stock steps of ``SAM2Base``, and faster ones for several stacks in one batch."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor

from synthfm_env.segmenters.sam2.fast.image_encoder import FastImageEncoder
from synthfm_env.segmenters.sam2.fast.mask_decoder import DecodedSlices, FastMaskDecoder
from synthfm_env.segmenters.sam2.fast.memory_attention import FastMemoryAttention
from synthfm_env.segmenters.sam2.fast.memory_encoder import FastMemoryEncoder
from synthfm_env.segmenters.sam2.fast.precision import autocast, fast_dtype
from synthfm_env.segmenters.sam2.options import MemoryPolicy
from synthfm_env.segmenters.sam2.slice_memory import SliceFeatures, SliceMemory, SliceStep, StackState
from synthfm_env.segmenters.sam2.tracking.preview import MAX_LOGIT, interpolate_unvisited, preview_slices
from synthfm_env.segmenters.sam2.tracking.propagation import full_sweeps, propagate, pruned_sweeps

_STRIDES = (4, 8, 16)  # of the image encoder's three maps

Update = tuple[StackState, SliceFeatures, StackState]
"""A stack's new state, its features, and the state before the newest prompt."""


class SliceTracker(ABC):
    """SAM 2 on slices: encodes images, decodes prompted slices and propagates masks from them.

    One tracker serves all sessions of a segmenter; it keeps nothing of them.

    Attributes:
        model: the SAM 2, in evaluation mode.
        feature_dtype: in which encoded slices are kept.
    """

    feature_dtype: torch.dtype

    @torch.no_grad()
    def __init__(self, model: SAM2Base) -> None:
        self.model = model
        # Position encodings do not depend on the image: (h * w, 1, C) of each map, and one of memories.
        self._sizes = [(model.image_size // stride, model.image_size // stride) for stride in _STRIDES]
        encoding = model.image_encoder.neck.position_encoding
        blanks = [torch.zeros(1, model.hidden_dim, *size, device=model.device) for size in self._sizes]
        self._positions = [encoding(blank).flatten(2).permute(2, 0, 1) for blank in blanks]
        self._memory_position = [model.memory_encoder.position_encoding(blanks[-1][:, : model.mem_dim]).clone()]

    @abstractmethod
    def encode(self, frames: Tensor) -> list[Tensor]:
        """Encode slices.

        Args:
            frames: float32 (B, 3, S, S), normalised.

        Returns:
            Maps (B, C, h, w) at strides 4, 8 and 16, in ``feature_dtype``.
        """

    @abstractmethod
    def propagate(self, updates: Sequence[Update]) -> None:
        """Track every stack after a prompt; the new states are changed."""

    def decode_prompted(
        self,
        features: SliceFeatures,
        before: StackState,
        z: int,
        *,
        points: dict[str, Tensor] | None,
        mask: Tensor | None,
        previous: SliceMemory | None,
    ) -> SliceMemory:
        """Decode a slice with its prompts, as stock SAM 2 does, and make the memory that conditions other slices.

        Args:
            features: of the stack.
            before: the state before the whole prompt.
            z: the slice.
            points: in the form that SAM 2 takes.
            mask: float32 (1, 1, S, S) of zeros and ones.
            previous: the slice's memory, whose mask is fed back; None for none.
        """
        output = self._track_step(
            features, before, z,
            # A lone slice stays an image: each prompt sees the last mask but no memory. Stock SAM 2 divides by zero
            # when a video of one frame attends to its own memory.
            is_init_cond_frame=not before.prompts or features.depth == 1,
            # As the slice was tracked last: down from the lowest conditioning slice, or up.
            track_in_reverse=bool(before.conditioning) and z <= min(before.conditioning) > 0,
            point_inputs=points,
            mask_inputs=mask,
            run_mem_encoder=False,
            prev_sam_mask_logits=None if previous is None else previous.logits.clamp(-MAX_LOGIT, MAX_LOGIT),
        )  # fmt: skip
        size = (self.model.image_size, self.model.image_size)
        memory, _ = self.model._encode_new_memory(
            current_vision_feats=_as_tokens(features.maps(z))[-1:],
            feat_sizes=self._sizes[-1:],
            pred_masks_high_res=F.interpolate(output["pred_masks"], size=size, mode="bilinear", align_corners=False),
            object_score_logits=output["object_score_logits"],
            is_mask_from_pts=mask is None,
        )
        return _stock_memory(output, memory)

    def _track_step(self, features: SliceFeatures, state: StackState, z: int, **options: Any) -> dict[str, Any]:
        output: dict[str, Any] = self.model.track_step(
            frame_idx=z,
            current_vision_feats=_as_tokens(features.maps(z)),
            current_vision_pos_embeds=self._positions,
            feat_sizes=self._sizes,
            output_dict=state.as_sam2_outputs(self._memory_position),
            num_frames=features.depth,
            **options,
        )
        return output


class StockTracker(SliceTracker):
    """Every slice after every prompt, one by one through ``SAM2Base.track_step``: the masks of stock SAM 2."""

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
        output = self._track_step(
            step.features, step.state, step.z, is_init_cond_frame=False, track_in_reverse=step.reverse,
            point_inputs=None, mask_inputs=None, run_mem_encoder=True, prev_sam_mask_logits=None,
        )  # fmt: skip
        return _stock_memory(output, output["maskmem_features"])


class FastSam2:
    """The four parts of SAM 2 that tracking a slice takes, rewritten for speed; built once for a model.

    Attributes:
        image_encoder: used on CPUs; on CUDA the model's own is as fast.
        memory_attention: conditions a slice on memories, with keys and values computed once a click.
        mask_decoder: decodes slices without a prompt.
        memory_encoder: turns masks into memories.
    """

    def __init__(self, model: SAM2Base, policy: MemoryPolicy) -> None:
        """Take a model, and which slices memory attention attends to."""
        self.dtype = fast_dtype(model.device)
        self.image_encoder = FastImageEncoder(model) if model.device.type == "cpu" else _stock_encoder(model)
        self.memory_attention = FastMemoryAttention(model, policy, self.dtype)
        self.mask_decoder = FastMaskDecoder(model)
        self.memory_encoder = FastMemoryEncoder(model)


class FastTracker(SliceTracker):
    """Slices of several sweeps and stacks in one batch, without slices that hardly change; see ``propagation``."""

    feature_dtype = torch.float16

    def __init__(self, model: SAM2Base, policy: MemoryPolicy) -> None:
        super().__init__(model)
        self.parts = FastSam2(model, policy)
        self._lag = model.num_maskmem - 1

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
                pruned_sweeps(*update, of_stack, self._lag) for update, of_stack in zip(updates, previews, strict=True)
            ]
            propagate([sweep for sweeps in by_stack for sweep in sweeps], self._track)
            # 3. Interpolate the slices that neither visited.
            for (state, _, before), of_stack, sweeps in zip(updates, previews, by_stack, strict=True):
                if of_stack is not None:
                    interpolate_unvisited(state, before, set(of_stack).union(*(sweep.visited for sweep in sweeps)))

    @contextmanager
    def _one_prompt(self) -> Iterator[None]:
        """Keep the keys and values of memories, and weights in half precision, for the time of one prompt."""
        with autocast(self.model.device, self.parts.dtype):
            try:
                yield
            finally:
                self.parts.memory_attention.forget()

    def _track(self, steps: Sequence[SliceStep]) -> list[SliceMemory]:
        """Decode slices and make memories of them."""
        coarse, decoded = self._decode(steps)
        features = self.parts.memory_encoder(coarse, decoded.masks, decoded.scores)
        return [decoded.memory(i, features[i : i + 1]) for i in range(len(steps))]

    def _redecode(self, steps: Sequence[SliceStep]) -> list[SliceMemory]:
        """Decode tracked slices again and keep their memory features."""
        _, decoded = self._decode(steps)
        return [decoded.memory(i, step.state.tracked[step.z].features) for i, step in enumerate(steps)]

    def _decode(self, steps: Sequence[SliceStep]) -> tuple[Tensor, DecodedSlices]:
        levels = [step.features.maps(step.z) for step in steps]
        fine, middle, coarse = (torch.cat(level) for level in zip(*levels, strict=True))
        conditioned = self.parts.memory_attention(coarse, steps)
        return coarse, self.parts.mask_decoder(conditioned, fine, middle)


def _stock_memory(output: dict[str, Any], features: Tensor) -> SliceMemory:
    # Stock SAM 2 keeps memories in bfloat16.
    return SliceMemory(output["pred_masks"], features.to(torch.bfloat16), output["obj_ptr"])


def _stock_encoder(model: SAM2Base) -> Any:
    return lambda frames: model.forward_image(frames)["backbone_fpn"]


def _as_tokens(maps: Sequence[Tensor]) -> list[Tensor]:
    """Return maps (1, C, h, w) as float32 (h * w, 1, C), the form that ``SAM2Base`` tracks with."""
    return [level.flatten(2).permute(2, 0, 1) for level in maps]
