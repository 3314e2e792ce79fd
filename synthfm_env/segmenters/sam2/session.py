"""One structure in one volume: clicks in, masks out, every slice tracked from the clicked ones."""

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sam2.modeling.sam2_base import NO_OBJ_SCORE, SAM2Base
from sam2.utils.misc import concat_points
from torch import Tensor

from synthfm_env.errors import InputError
from synthfm_env.prompts import Click
from synthfm_env.segmenters.contract import Prediction, Seconds, Session
from synthfm_env.segmenters.sam2.features import Features

# Fast mode stops tracking once the object has been gone for so many slices; SAM 2's memory reaches six back.
_PATIENCE = 6
# From the second click on it stops between two clicked slices once so many slices in a row came out as before the
# click, that is with at most this share of their pixels changed.
_SETTLED = 3
_CHANGE = 0.005

_Output = dict[str, Any]  # what SAM2Base.track_step returns for a slice; never changed once stored


@dataclass(slots=True)
class _State:
    """What follows from the clicks so far. Copied shallowly before each click, so that undo is exact."""

    clicks: tuple[Click, ...] = ()
    conditioning: dict[int, _Output] = field(default_factory=dict)
    tracked: dict[int, _Output] = field(default_factory=dict)
    points: dict[int, dict[str, Tensor]] = field(default_factory=dict)
    reverse: dict[int, bool] = field(default_factory=dict)

    def copy(self) -> "_State":
        return _State(self.clicks, dict(self.conditioning), dict(self.tracked), dict(self.points), dict(self.reverse))

    def memory(self) -> dict[str, dict[int, _Output]]:
        return {"cond_frame_outputs": self.conditioning, "non_cond_frame_outputs": self.tracked}


class SAM2Session(Session):
    """Clicks on one structure, answered by SAM 2.

    After each click the clicked slice is decoded and becomes conditioning, then the volume is tracked from the
    lowest clicked slice up to the last and down to the first, as ``SAM2VideoPredictor`` does when it is driven with
    ``add_all_frames_to_correct_as_cond=True`` and propagated forward and in reverse after each click. Slices are
    encoded once; stock SAM 2 encodes them again at every propagation.
    """

    def __init__(
        self,
        model: SAM2Base,
        features: Features,
        shape: tuple[int, int, int],
        *,
        fast: bool,
    ) -> None:
        """Take the encoded slices of an image.

        Args:
            model: shared, never changed.
            features: of the image's slices.
            shape: (D, H, W) of the image.
            fast: leave out slices whose mask would hardly change, see the module.
        """
        self._model, self._features, self._shape = model, features, shape
        self._fast = fast
        self._history = [_State()]
        self._closed = False

    @property
    def clicks(self) -> tuple[Click, ...]:
        """The clicks in force, oldest first."""
        return self._history[-1].clicks

    def _check_open(self) -> None:
        if self._closed:
            raise InputError("this session is closed; open another with segmenter.start(image, spacing)")

    @torch.inference_mode()
    def add(self, click: Click) -> Prediction:
        """Take one more click; see ``Session.add``."""
        self._check_open()
        click.check_inside(self._shape)
        started, encoded = time.perf_counter(), self._features.seconds
        state = self._history[-1].copy()
        state.clicks += (click,)
        self._click(state, click)
        if self._shape[0] > 1:
            # A lone slice stays an image: each click sees the last mask but no memory. Stock SAM 2 divides by zero
            # when a video of one frame meets its own memory.
            self._propagate(state)
        self._history.append(state)
        return self._answer(state, started, self._features.seconds - encoded)

    def undo(self) -> Prediction:
        """Take back the newest click; see ``Session.undo``."""
        self._check_open()
        if len(self._history) == 1:
            raise InputError("session.undo(): there is no click to take back")
        started = time.perf_counter()
        self._history.pop()
        if not self.clicks:
            return Prediction(np.zeros(self._shape, dtype=bool), None, Seconds(0.0, 0.0))
        return self._answer(self._history[-1], started, encode=0.0)

    def reset(self) -> None:
        """Forget all clicks, keep the encoded slices."""
        self._check_open()
        del self._history[1:]

    def close(self) -> None:
        """Free the encoded slices and all masks."""
        self._closed = True
        self._history = [_State()]
        self._features.clear()

    def _answer(self, state: _State, started: float, encode: float) -> Prediction:
        """Make new arrays of a state; masks are not kept, one of a large volume outweighs all that SAM 2 remembers."""
        logits = self._logits(state)
        mask = self._native_mask(logits)
        predict = time.perf_counter() - started - encode
        return Prediction(mask, logits[:, 0].numpy(), Seconds(encode, predict))

    def _click(self, state: _State, click: Click) -> None:
        """Decode the clicked slice with all its points and make it conditioning."""
        z, y, x = click.zyx
        size = self._model.image_size
        device = self._model.device
        point = torch.tensor([[[x / self._shape[2] * size, y / self._shape[1] * size]]], device=device)
        label = torch.tensor([[int(click.positive)]], dtype=torch.int32, device=device)
        state.points[z] = concat_points(state.points.get(z), point, label)
        previous = state.conditioning.get(z) or state.tracked.get(z)
        logits = None if previous is None else previous["pred_masks"].clamp(-32.0, 32.0)
        output = self._step(
            state, z, initial=z not in state.reverse, reverse=state.reverse.get(z, False),
            points=state.points[z], logits=logits,
        )  # fmt: skip
        full = F.interpolate(output["pred_masks"], size=(size, size), mode="bilinear", align_corners=False)
        memory, position = self._model._encode_new_memory(
            current_vision_feats=self._features.levels(z)[-1:],
            feat_sizes=self._features.sizes[-1:],
            pred_masks_high_res=full,
            object_score_logits=output["object_score_logits"],
            is_mask_from_pts=True,
        )
        state.conditioning[z] = self._compact(output, memory, position)
        state.tracked.pop(z, None)

    def _propagate(self, state: _State) -> None:
        """Track every slice without clicks, upwards and then downwards from the lowest clicked one."""
        depth, start = self._shape[0], min(state.conditioning)
        self._track(state, range(start, depth), reverse=False)
        if start > 0:
            self._track(state, range(start, -1, -1), reverse=True)

    def _track(self, state: _State, order: range, *, reverse: bool) -> None:
        before = self._history[-1].tracked  # as they were before this click
        gone, settled = 0, 0
        ahead = sum(z in order for z in state.conditioning)
        for z in order:
            state.reverse[z] = reverse
            if z in state.conditioning:
                gone, settled, ahead = 0, 0, ahead - 1
            elif self._fast and ahead == 0 and gone >= _PATIENCE:
                state.tracked.pop(z, None)
            elif not (self._fast and settled >= _SETTLED):
                output = self._step(state, z, initial=False, reverse=reverse, points=None, logits=None)
                state.tracked[z] = self._compact(output, output["maskmem_features"], output["maskmem_pos_enc"])
                mask = output["pred_masks"] > 0
                gone = 0 if bool(mask.any()) else gone + 1
                settled = settled + 1 if before and _alike(mask, before.get(z)) else 0

    def _step(
        self, state: _State, z: int, *, initial: bool, reverse: bool, points: dict[str, Tensor] | None,
        logits: Tensor | None,
    ) -> _Output:  # fmt: skip
        output: _Output = self._model.track_step(
            frame_idx=z,
            is_init_cond_frame=initial,
            current_vision_feats=self._features.levels(z),
            current_vision_pos_embeds=self._features.positions,
            feat_sizes=self._features.sizes,
            point_inputs=points,
            mask_inputs=None,
            output_dict=state.memory(),
            num_frames=self._shape[0],
            track_in_reverse=reverse,
            run_mem_encoder=points is None,
            prev_sam_mask_logits=logits,
        )
        return output

    def _compact(self, output: _Output, memory: Tensor, position: list[Tensor]) -> _Output:
        """Keep what later slices read; bfloat16 memories, as stock SAM 2 keeps them."""
        return {
            "maskmem_features": memory.to(torch.bfloat16),
            "maskmem_pos_enc": self._features.memory_position(position),
            "pred_masks": output["pred_masks"],
            "obj_ptr": output["obj_ptr"],
        }

    def _logits(self, state: _State) -> Tensor:
        outputs = state.tracked | state.conditioning
        absent = torch.full_like(next(iter(outputs.values()))["pred_masks"], NO_OBJ_SCORE)
        slices = [outputs[z]["pred_masks"] if z in outputs else absent for z in range(self._shape[0])]
        return torch.cat(slices).float().cpu()

    def _native_mask(self, logits: Tensor) -> NDArray[np.bool_]:
        """Bring (D, 1, h, w) logits to the image's grid and threshold them, some slices at a time."""
        mask = np.empty(self._shape, dtype=bool)
        for z in range(0, self._shape[0], 16):
            full = F.interpolate(logits[z : z + 16], size=self._shape[1:], mode="bilinear", align_corners=False)
            mask[z : z + 16] = (full[:, 0] > 0).numpy()
        return mask


def _alike(mask: Tensor, before: _Output | None) -> bool:
    """Tell whether a slice's mask is nearly the one it had before the click; a slice left out before was empty."""
    if before is None:
        return not bool(mask.any())
    old = before["pred_masks"] > 0
    return int((mask ^ old).sum()) <= _CHANGE * int((mask | old).sum())
