"""One slice tracked, or several of different chains at once: stock SAM 2's step, and a leaner one."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor

from synthfm_env.segmenters.sam2.fast.mask_decoder import Decoded, Decoder
from synthfm_env.segmenters.sam2.fast.memory_attention import Memory, Recall
from synthfm_env.segmenters.sam2.fast.memory_encoder import Imprint
from synthfm_env.segmenters.sam2.fast.precision import quick, quick_precision
from synthfm_env.segmenters.sam2.slice_memory import Output, State
from synthfm_env.segmenters.sam2.tracking.feature_cache import Features
from synthfm_env.segmenters.sam2.tracking.propagation import Slot


def track_slice(
    model: SAM2Base,
    features: Features,
    state: State,
    z: int,
    *,
    reverse: bool,
    initial: bool = False,
    prompted: bool = False,
    points: dict[str, Tensor] | None = None,
    mask: Tensor | None = None,
    logits: Tensor | None = None,
) -> Output:
    """Run ``SAM2Base.track_step`` on a slice; if it is ``prompted``, no memory is made of it."""
    output: Output = model.track_step(
        frame_idx=z,
        is_init_cond_frame=initial,
        current_vision_feats=features.levels(z),
        current_vision_pos_embeds=features.positions,
        feat_sizes=features.sizes,
        point_inputs=points,
        mask_inputs=mask,
        output_dict=state.memory(),
        num_frames=features.depth,
        track_in_reverse=reverse,
        run_mem_encoder=not prompted,
        prev_sam_mask_logits=logits,
    )
    return output


def keep(features: Features, output: Output, memory: Tensor, position: list[Tensor]) -> Output:
    """Return what later slices read of a slice; bfloat16 memories, as stock SAM 2 keeps them."""
    return {
        "maskmem_features": memory.to(torch.bfloat16),
        "maskmem_pos_enc": features.memory_position(position),
        "pred_masks": output["pred_masks"],
        "obj_ptr": output["obj_ptr"],
    }


class StockStep:
    """Slices one by one through ``SAM2Base.track_step``: SAM 2's masks bit for bit, whatever is tracked beside."""

    def __init__(self, model: SAM2Base) -> None:
        self._model = model

    def __call__(self, slots: Sequence[Slot]) -> list[Output]:
        """Track slices."""
        return [self._one(slot) for slot in slots]

    def _one(self, slot: Slot) -> Output:
        output = track_slice(self._model, slot.features, slot.state, slot.z, reverse=slot.reverse)
        return keep(slot.features, output, output["maskmem_features"], output["maskmem_pos_enc"])


class FastStep:
    """Slices of several chains in one batch, with the keys and values of memories computed once a click."""

    def __init__(self, model: SAM2Base, memory: Memory) -> None:
        self._dtype = quick_precision(model.device)
        self._model, self._recall = model, Recall(model, memory, self._dtype)
        self._decoder, self._imprint = Decoder(model), Imprint(model)
        self.lag = model.num_maskmem - 1

    def __call__(self, slots: Sequence[Slot]) -> list[Output]:
        """Track slices, and make memories of them."""
        coarse, decoded = self._decode(slots)
        memories = self._imprint(coarse, decoded.masks, decoded.scores)
        return [
            {"maskmem_features": memories[i : i + 1], "maskmem_pos_enc": self._recall.memory_position} | decoded.of(i)
            for i in range(len(slots))
        ]

    def again(self, slots: Sequence[Slot]) -> list[Output]:
        """Track slices that were tracked before, and leave their memories as they are."""
        _, decoded = self._decode(slots)
        return [slot.state.tracked[slot.z] | decoded.of(i) for i, slot in enumerate(slots)]

    def _decode(self, slots: Sequence[Slot]) -> tuple[Tensor, Decoded]:
        levels = [slot.features.maps(slot.z) for slot in slots]
        fine, middle, coarse = (torch.cat(level) for level in zip(*levels, strict=True))
        return coarse, self._decoder(self._recall(coarse, slots), fine, middle)

    @contextmanager
    def click(self) -> Iterator[None]:
        """Enter for the time of one click: within, keys, values and weights in half precision are kept."""
        with quick(self._model.device, self._dtype):
            try:
                yield
            finally:
                self._recall.forget()
