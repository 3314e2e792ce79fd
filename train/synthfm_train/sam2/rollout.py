"""Plays one clip with simulated clicks: the steps of the interactive engine, with gradients and many objects at once.

The model stays in evaluation mode. It has no dropout and no batch statistics, and in training mode SAM 2 would choose
its memories by another rule than at inference.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from sam2.modeling.sam2_base import NO_OBJ_SCORE, SAM2Base
from torch import Tensor

from synthfm_env.segmenters.sam2.slice_context import SliceContext, context_of
from synthfm_train.sam2.boundary import BoundaryHead, boundary_cells, boundary_loss
from synthfm_train.sam2.losses import LossName, mask_loss
from synthfm_train.sam2.prompt_sampling import correction, noisy_box
from synthfm_train.sam2.recipe import Phase

# Number of slices that SAM 2 scales the distances of object pointers by: that of a volume, of which a clip is a part.
_SLICES_OF_VOLUME = 64


@dataclass(frozen=True, slots=True)
class _Prediction:
    """Low-resolution ungated logits (N, 1, h, w), object score logits (N, 1), and object pointers."""

    ungated: Tensor
    score: Tensor
    pointer: Tensor

    @property
    def gated(self) -> Tensor:
        return torch.where(self.score[:, :, None, None] > 0, self.ungated, NO_OBJ_SCORE)


class Rollout:
    """Plays prompts on B clips of T slices with O objects each, which gives N = B * O masks on each slice.

    Attributes:
        maps: the encoded slices at stride 4, 8 and 16, each (B, T, C, h, w).
        points: by slice, the coordinates (N, P, 2) and labels (N, P) of all prompts so far.
    """

    def __init__(
        self,
        model: SAM2Base,
        frames: Tensor,
        masks: Tensor,
        generator: torch.Generator,
        loss: LossName = "synthfm3d",
        balance: float = 0.0,
    ) -> None:
        """Encode the slices.

        Args:
            model: the SAM 2 to train.
            frames: float32 (B, T, 3, S, S), normalised as the engine does.
            masks: bool (B, O, T, S, S), on the same device; none empty on its first slice.
            generator: random generator on the CPU.
            loss: see ``mask_loss``.
            balance: see ``mask_loss``.
        """
        self.model, self.generator = model, generator
        self._loss_name: LossName = loss
        self._balance = balance
        self._batch, objects, self.length = masks.shape[:3]
        self.truth = masks.flatten(0, 1)
        maps, position = encode_slices(model, frames)
        self.maps = [level.unflatten(0, (self._batch, self.length)) for level in maps]
        self._owner = torch.arange(self._batch, device=frames.device).repeat_interleave(objects)
        self._position = position[:1].expand(len(self._owner), -1, -1, -1).flatten(2).permute(2, 0, 1)
        self._memory: dict[str, dict[int, dict[str, Any]]] = {
            "cond_frame_outputs": {},
            "non_cond_frame_outputs": {},
        }
        self.points: dict[int, tuple[Tensor, Tensor]] = {}
        self._latest: dict[int, _Prediction] = {}
        self._losses: list[Tensor] = []
        self._with_memory: list[tuple[int, Tensor]] = []

    def _level(self, level: int, t: int) -> Tensor:
        """Return a map of slice ``t`` for each of the N objects, (N, C, h, w)."""
        return self.maps[level][:, t][self._owner]

    def _conditioned(self, t: int, initial: bool, reverse: bool) -> Tensor:
        """Return the features of slice ``t`` after memory attention, (N, C, h, w); without memories if ``initial``."""
        top = self._level(-1, t)
        features: Tensor = self.model._prepare_memory_conditioned_features(
            frame_idx=t,
            is_init_cond_frame=initial,
            current_vision_feats=[top.flatten(2).permute(2, 0, 1)],
            current_vision_pos_embeds=[self._position],
            feat_sizes=[tuple(top.shape[-2:])],
            output_dict=self._memory,
            num_frames=_SLICES_OF_VOLUME,
            track_in_reverse=reverse,
        )
        if not initial:
            self._with_memory.append((t, features))
        return features

    def _decode(self, t: int, features: Tensor, points: tuple[Tensor, Tensor] | None, logits: Tensor | None) -> Tensor:
        """Run prompt encoder and mask decoder, add the loss of the masks, and return their hard Dice."""
        # Prompts as SAM 2's inference gives them.
        model, n = self.model, len(self._owner)
        device = features.device
        several = model._use_multimask(
            is_init_cond_frame=not self._memory["cond_frame_outputs"],
            point_inputs=None if points is None else {"point_labels": points[1]},
        )
        if points is None:
            points = torch.zeros(n, 1, 2, device=device), -torch.ones(n, 1, dtype=torch.int32, device=device)
        # Prompt encoder and mask decoder.
        sparse, dense = model.sam_prompt_encoder(points=points, boxes=None, masks=logits)
        ungated, iou, tokens, score = model.sam_mask_decoder(
            image_embeddings=features,
            image_pe=model.sam_prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=several,
            repeat_image=False,
            high_res_features=[self._level(0, t), self._level(1, t)],
        )
        ungated, iou, score = ungated.float(), iou.float(), score.float()
        # Loss at the truth's resolution.
        full = F.interpolate(ungated, size=self.truth.shape[-2:], mode="bilinear", align_corners=False)
        scored = mask_loss(full, self.truth[:, t], iou, score[:, 0], self._loss_name, self._balance)
        self._losses.append(scored.total)
        # Inference uses the mask with the highest predicted IoU, and its token as the pointer.
        best = iou.argmax(1)
        every = torch.arange(n, device=device)
        token = tokens[every, best] if tokens.shape[1] > 1 else tokens[:, 0]
        appears = (score > 0).float()
        pointer = model.obj_ptr_proj(token) * appears + (1 - appears) * model.no_obj_ptr
        self._latest[t] = _Prediction(ungated[every, best][:, None], score, pointer)
        return scored.dice

    def remember(self, t: int, clicked: bool) -> None:
        """Encode slice ``t`` with its latest prediction into the memory bank."""
        prediction = self._latest[t]
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
        key = "cond_frame_outputs" if clicked or t in self._memory["cond_frame_outputs"] else "non_cond_frame_outputs"
        self._memory[key][t] = entry
        if key == "cond_frame_outputs":
            self._memory["non_cond_frame_outputs"].pop(t, None)

    def mask(self, t: int) -> Tensor:
        """Return the latest gated masks on slice ``t``, as at inference, bool (N, S, S)."""
        if t not in self._latest:
            return torch.zeros_like(self.truth[:, t])
        gated = self._latest[t].gated
        full = F.interpolate(gated, size=self.truth.shape[-2:], mode="bilinear", align_corners=False)
        return full[:, 0] > 0

    def click(self, t: int, reverse: bool = False) -> Tensor:
        """Draw a click on slice ``t`` from the errors of its latest mask, predict again, and return the Dice."""
        return self._prompt(t, correction(self.mask(t), self.truth[:, t], self.generator), reverse)

    def give_box(self, t: int) -> Tensor:
        """Draw a box around the truth on slice ``t``, predict, and return the Dice."""
        return self._prompt(t, noisy_box(self.truth[:, t], self.generator), reverse=False)

    def _prompt(self, t: int, prompt: tuple[Tensor, Tensor], reverse: bool) -> Tensor:
        """Predict slice ``t`` from all its prompts, this one added, and return the Dice."""
        before, previous = self.points.get(t), self._latest.get(t)
        if before is not None:
            prompt = torch.cat((before[0], prompt[0]), 1), torch.cat((before[1], prompt[1]), 1)
        self.points[t] = prompt
        known = self._memory["cond_frame_outputs"]
        features = self._conditioned(t, initial=not known, reverse=reverse)
        logits = None if previous is None else previous.gated.detach().clamp(-32, 32)
        return self._decode(t, features, prompt, logits)

    def give_mask(self, t: int) -> None:
        """Use the truth on slice ``t`` as a mask prompt, which SAM 2 takes as its output; it has no loss."""
        low, _, _, _, _, pointer, score = self.model._use_mask_as_output(
            self._level(-1, t), [self._level(0, t), self._level(1, t)], self.truth[:, t][:, None].float()
        )
        self._latest[t] = _Prediction(low.float(), score.float(), pointer)

    def track(self, t: int, reverse: bool = False) -> Tensor:
        """Predict slice ``t`` from the memory bank alone, add it to the bank, and return the Dice."""
        dice = self._decode(t, self._conditioned(t, initial=False, reverse=reverse), None, None)
        self.remember(t, clicked=False)
        return dice

    @torch.no_grad()
    def _worst_and_another(self) -> tuple[int, int]:
        """Return the slice to correct, usually the one with the largest error, and another one to track afterwards."""
        order = torch.randperm(self.length, generator=self.generator).tolist()
        if torch.rand(1, generator=self.generator) < 0.7:
            size = self._latest[0].ungated.shape[-2:]
            truth = F.interpolate(self.truth.float(), size=size, mode="area") > 0.5
            wrong = torch.stack([((self._latest[t].gated[:, 0] > 0) ^ truth[:, t]).float().mean() for t in order])
            worst = max(zip(wrong.tolist(), order, strict=True))[1]
            order.remove(worst)
            order.insert(0, worst)
        return order[0], order[1]

    def play(self, phase: Phase) -> dict[str, Tensor]:
        """Prompt the first slice, track the others, then correct slices and track another slice after each correction.

        Returns:
            Hard Dice: ``dice1`` after the first click (``dice_box`` after a box, neither after a mask), ``dice_last``
            after the last click on the first slice, ``tracked`` on the other slices.
        """
        values = self._first_slice(phase)
        if self.length > 1:
            self.remember(0, clicked=True)
            values["tracked"] = torch.stack([self.track(t) for t in range(1, self.length)]).mean()
            for _ in range(phase.corrections):
                corrected, tracked = self._worst_and_another()
                reverse = tracked < corrected
                self.click(corrected, reverse=reverse)
                self.remember(corrected, clicked=True)
                if tracked not in self._memory["cond_frame_outputs"]:
                    self.track(tracked, reverse=reverse)
        return values

    def _first_slice(self, phase: Phase) -> dict[str, Tensor]:
        """Prompt the first slice as often as is drawn, and return its hard Dice; see ``play``."""
        # A single image also gets the clicks that a clip has for corrections.
        most = phase.clicks + (phase.corrections if self.length == 1 else 0)
        clicks = 1 + int(torch.randint(most, (1,), generator=self.generator))
        # In a volume the engine propagates after every click, so a second click on a slice attends to the memory of the
        # first. In an image there is no memory. Both cases are trained.
        remembers = bool(torch.rand(1, generator=self.generator) < 0.5)
        kind = float(torch.rand(1, generator=self.generator))
        if self.length > 1 and kind < phase.masks:
            self.give_mask(0)
            return {}
        box = phase.masks <= kind < phase.masks + phase.boxes
        first = last = self.give_box(0) if box else self.click(0)
        for _ in range(clicks - 1):
            if remembers:
                self.remember(0, clicked=True)
            last = self.click(0)
        if remembers:
            self.remember(0, clicked=True)
        return {"dice_box" if box else "dice1": first, "dice_last": last}

    def loss(self) -> Tensor:
        """Return the mean loss of all predictions so far."""
        return torch.stack([loss.mean() for loss in self._losses]).mean()

    def boundary_loss(self, head: BoundaryHead) -> Tensor:
        """Return the mean boundary loss of all predictions so far that had a memory; there must be one."""
        losses = [
            boundary_loss(head(features, self._level(-1, t), self._level(0, t)), boundary_cells(self.truth[:, t]))
            for t, features in self._with_memory
        ]
        return torch.stack(losses).mean()

    def faulty(self) -> list[int]:
        """Return the clips, 0 to B - 1, with a prediction whose loss is not finite."""
        bad = ~torch.stack(self._losses).isfinite().all(0)
        return sorted(set(self._owner[bad].tolist()))


def encode_slices(model: SAM2Base, frames: Tensor) -> tuple[list[Tensor], Tensor]:
    """Run the image encoder, without a gradient if it is frozen.

    Args:
        model: the SAM 2.
        frames: float32 (B, T, 3, S, S), normalised: B clips of T slices, or (T, 3, S, S) for one.

    Returns:
        The maps of all slices at stride 4, 8 and 16, the first two as the mask decoder projects them, and the position
        encoding of the last, (B * T, C, S/16, S/16).
    """
    trained = any(parameter.requires_grad for parameter in model.image_encoder.parameters())
    with torch.set_grad_enabled(trained and torch.is_grad_enabled()):
        # Only an encoder that sees neighbouring slices must know where a clip ends.
        sees_neighbours = context_of(model) != SliceContext()
        encoded = model.image_encoder(frames if sees_neighbours else frames.flatten(0, -4))
    fine, middle, top = encoded["backbone_fpn"]
    decoder = model.sam_mask_decoder
    return [decoder.conv_s0(fine), decoder.conv_s1(middle), top], encoded["vision_pos_enc"][-1]
