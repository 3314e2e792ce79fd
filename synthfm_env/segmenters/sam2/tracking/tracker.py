"""Defines the base of the trackers, which encode images, decode prompted slices and propagate masks from them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor

from synthfm_env.segmenters.sam2.slice_memory import MAX_LOGIT, SliceFeatures, SliceMemory, StackState

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
        output = self.track_step(
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
        return stock_memory(output, memory)

    def track_step(self, features: SliceFeatures, state: StackState, z: int, **options: Any) -> dict[str, Any]:
        """Run ``SAM2Base.track_step`` on a slice with the memories of a state."""
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


def stock_memory(output: dict[str, Any], features: Tensor) -> SliceMemory:
    """Return the memory of a slice from an output of ``SAM2Base.track_step`` and memory features."""
    # Stock SAM 2 keeps memories in bfloat16.
    return SliceMemory(output["pred_masks"], features.to(torch.bfloat16), output["obj_ptr"])


def _as_tokens(maps: Sequence[Tensor]) -> list[Tensor]:
    """Return maps (1, C, h, w) as float32 (h * w, 1, C), the form that ``SAM2Base`` tracks with."""
    return [level.flatten(2).permute(2, 0, 1) for level in maps]
