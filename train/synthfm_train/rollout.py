"""One clip under simulated clicks: the steps of the interactive engine, with gradients and many objects at once.

The model stays in evaluation mode: it holds no dropout and no batch statistics, and SAM 2 picks its memories by
another rule in training mode than when it is used.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from sam2.modeling.sam2_base import NO_OBJ_SCORE, SAM2Base
from torch import Tensor

from synthfm_train.clicks import correction
from synthfm_train.losses import mask_loss
from synthfm_train.recipe import Phase

# SAM 2 scales the distance of object pointers by the number of slices, up to 16. A clip stands for a part of a volume.
_VOLUME = 64


@dataclass(frozen=True, slots=True)
class RolloutResult:
    """Mean loss of all predictions of a clip, and hard Dice (detached) at three moments."""

    loss: Tensor
    first_click: float
    last_click: float
    tracked: float


@dataclass(frozen=True, slots=True)
class _Prediction:
    """Low-resolution logits (N, 1, h, w) in front of the gate, object score logits (N, 1), predicted IoU (N, 1)."""

    ungated: Tensor
    score: Tensor
    iou: Tensor
    pointer: Tensor

    @property
    def gated(self) -> Tensor:
        return torch.where(self.score[:, :, None, None] > 0, self.ungated, NO_OBJ_SCORE)


class Rollout:
    """Plays clicks on B clips of T slices with O objects each; N = B * O masks a slice."""

    def __init__(
        self, model: SAM2Base, frames: Tensor, masks: Tensor, generator: torch.Generator, balance: float = 0.0
    ) -> None:
        """Encode the slices.

        Args:
            model: the SAM 2 to train.
            frames: float32 (B, T, 3, S, S), normalised as the engine does.
            masks: bool (B, O, T, S, S).
            generator: source of all draws.
            balance: see ``mask_loss``.
        """
        self.model, self.generator, self.balance = model, generator, balance
        batch, objects, self.length = masks.shape[:3]
        self.truth = masks.flatten(0, 1)
        backbone = model.forward_image(frames.flatten(0, 1))
        self.maps = [level.unflatten(0, (batch, self.length)) for level in backbone["backbone_fpn"]]
        self.owner = torch.arange(batch).repeat_interleave(objects)
        position = backbone["vision_pos_enc"][-1][:1]
        self.position = position.expand(len(self.owner), -1, -1, -1).flatten(2).permute(2, 0, 1)
        self.memory: dict[str, dict[int, dict[str, Any]]] = {
            "cond_frame_outputs": {},
            "non_cond_frame_outputs": {},
        }
        self.points: dict[int, tuple[Tensor, Tensor]] = {}
        self.latest: dict[int, _Prediction] = {}
        self.losses: list[Tensor] = []

    def _level(self, level: int, t: int) -> Tensor:
        return self.maps[level][:, t][self.owner]

    def _conditioned(self, t: int, initial: bool, reverse: bool) -> Tensor:
        top = self._level(-1, t)
        features: Tensor = self.model._prepare_memory_conditioned_features(
            frame_idx=t,
            is_init_cond_frame=initial,
            current_vision_feats=[top.flatten(2).permute(2, 0, 1)],
            current_vision_pos_embeds=[self.position],
            feat_sizes=[tuple(top.shape[-2:])],
            output_dict=self.memory,
            num_frames=_VOLUME,
            track_in_reverse=reverse,
        )
        return features

    def _decode(self, t: int, features: Tensor, points: tuple[Tensor, Tensor] | None, logits: Tensor | None) -> float:
        """Run the prompt encoder and the mask decoder, score the masks, return their hard Dice."""
        model, n = self.model, len(self.owner)
        if points is None:
            points = (torch.zeros(n, 1, 2), -torch.ones(n, 1, dtype=torch.int32))
        sparse, dense = model.sam_prompt_encoder(points=points, boxes=None, masks=logits)
        ungated, iou, tokens, score = model.sam_mask_decoder(
            image_embeddings=features,
            image_pe=model.sam_prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
            repeat_image=False,
            high_res_features=[self._level(0, t), self._level(1, t)],
        )
        ungated, iou, score = ungated.float(), iou.float(), score.float()
        appears = (score > 0).float()
        pointer = model.obj_ptr_proj(tokens[:, 0]) * appears + (1 - appears) * model.no_obj_ptr
        self.latest[t] = _Prediction(ungated, score, iou, pointer)
        full = F.interpolate(ungated, size=self.truth.shape[-2:], mode="bilinear", align_corners=False)
        scored = mask_loss(full[:, 0], self.truth[:, t], iou[:, 0], score[:, 0], self.balance)
        self.losses.append(scored.total)
        return float(scored.dice)

    def remember(self, t: int, clicked: bool) -> None:
        """Encode slice ``t`` with its latest prediction into the memory bank."""
        prediction = self.latest[t]
        full = F.interpolate(prediction.gated, size=self.truth.shape[-2:], mode="bilinear", align_corners=False)
        top = self._level(-1, t)
        features, position = self.model._encode_new_memory(
            current_vision_feats=[top.flatten(2).permute(2, 0, 1)],
            feat_sizes=[tuple(top.shape[-2:])],
            pred_masks_high_res=full,
            object_score_logits=prediction.score,
            is_mask_from_pts=clicked,
        )
        entry = {"maskmem_features": features, "maskmem_pos_enc": position, "obj_ptr": prediction.pointer}
        key = "cond_frame_outputs" if clicked or t in self.memory["cond_frame_outputs"] else "non_cond_frame_outputs"
        self.memory[key][t] = entry
        if key == "cond_frame_outputs":
            self.memory["non_cond_frame_outputs"].pop(t, None)

    def click(self, t: int, reverse: bool = False) -> float:
        """Draw a click on slice ``t`` from its latest prediction, predict again, return the Dice."""
        previous = self.latest.get(t)
        truth = self.truth[:, t]
        if previous is None:
            predicted = torch.zeros_like(truth)
        else:
            full = F.interpolate(previous.gated, size=truth.shape[-2:], mode="bilinear", align_corners=False)
            predicted = full[:, 0] > 0
        coords, labels = correction(predicted, truth, self.generator)
        if t in self.points:
            coords = torch.cat((self.points[t][0], coords), 1)
            labels = torch.cat((self.points[t][1], labels), 1)
        self.points[t] = (coords, labels)
        known = self.memory["cond_frame_outputs"]
        features = self._conditioned(t, initial=not known, reverse=reverse)
        logits = None if previous is None else previous.gated.detach().clamp(-32, 32)
        return self._decode(t, features, self.points[t], logits)

    def track(self, t: int, reverse: bool = False) -> float:
        """Predict slice ``t`` from the memory bank alone, remember it, return the Dice."""
        dice = self._decode(t, self._conditioned(t, initial=False, reverse=reverse), None, None)
        self.remember(t, clicked=False)
        return dice

    @torch.no_grad()
    def _worst_and_another(self) -> tuple[int, int]:
        """Return the slice to correct, mostly the one with the largest error, and one more to track afterwards."""
        order = torch.randperm(self.length, generator=self.generator).tolist()
        if torch.rand(1, generator=self.generator) < 0.7:
            size = self.latest[0].ungated.shape[-2:]
            truth = F.interpolate(self.truth.float(), size=size, mode="area") > 0.5
            wrong = [(float(((self.latest[t].gated[:, 0] > 0) ^ truth[:, t]).float().mean()), t) for t in order]
            worst = max(wrong)[1]
            order.remove(worst)
            order.insert(0, worst)
        return order[0], order[1]

    def play(self, phase: Phase) -> RolloutResult:
        """Click the first slice, track the others, then correct slices anywhere and track a neighbour of each."""
        clicks = 1 + int(torch.randint(phase.clicks, (1,), generator=self.generator))
        # The engine propagates after every click, so a second click on a slice meets the memory of the first.
        # Without it the first slice is an image by itself. Both happen in use, both are trained.
        remembers = bool(torch.rand(1, generator=self.generator) < 0.5)
        dices = []
        for _ in range(clicks):
            dices.append(self.click(0))
            if remembers:
                self.remember(0, clicked=True)
        tracked = []
        if self.length > 1:
            self.remember(0, clicked=True)
            tracked = [self.track(t) for t in range(1, self.length)]
            for _ in range(phase.corrections):
                r, j = self._worst_and_another()
                self.click(r, reverse=bool(j < r))
                self.remember(r, clicked=True)
                if j not in self.memory["cond_frame_outputs"]:
                    self.track(j, reverse=bool(j < r))
        loss = torch.stack(self.losses).mean()
        return RolloutResult(loss, dices[0], dices[-1], sum(tracked) / max(1, len(tracked)))
