"""Computes the loss of predicted masks from ungated logits.

SAM 2 sets the logits of a slice to -1024 if its object score is not positive. A loss on these gated logits gives no
gradient to the mask while the score of a random model is negative, and the model learns to predict nothing. So the loss
takes the logits before the gate, and scores the object score separately. With a positive score both are the same.
"""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

LossName = Literal["synthfm3d", "sam2", "dice"]

_FOCAL = 20.0  # weight of SAM 2's focal loss; Dice, IoU and object score have weight 1
_ALPHA, _GAMMA = 0.25, 2.0  # of the focal loss
_IOU: dict[LossName, float] = {"synthfm3d": 0.1, "sam2": 1.0, "dice": 0.1}


class MaskLoss(NamedTuple):
    """Loss of one prediction of N masks, and their Dice (detached).

    Attributes:
        total: float32 (N,).
        dice: float32 (), mean hard Dice over the masks whose truth is not empty.
    """

    total: Tensor
    dice: Tensor


def mask_loss(
    logits: Tensor, truth: Tensor, iou: Tensor, score: Tensor, name: LossName = "synthfm3d", balance: float = 0.0
) -> MaskLoss:
    """Compute the loss of one prediction.

    - ``"synthfm3d"``: soft Dice and cross-entropy on the mask. If the truth is empty, the predicted area replaces Dice,
      so that the mask learns to be empty. With the object score alone to end tracking, a short training tracks every
      object to the last slice. An object covers a few percent of a slice, so plain cross-entropy teaches a random model
      to predict nothing for thousands of steps. With ``balance`` 1, inside and outside have the same total weight, and
      the best prediction without an image is at the click.
    - ``"sam2"``: focal loss (weight 20; alpha 0.25, gamma 2) and soft Dice (weight 1) on masks whose truth is not
      empty, as ``training.loss_fns`` of facebookresearch/sam2 with the weights of its fine-tuning configuration.
    - ``"dice"``: soft Dice alone on the mask (SynthFM, arXiv 2504.08177), also for empty truths.

    All of them add the error of the predicted IoU if the truth is not empty (L1, weight 1 in ``"sam2"``, else 0.1), and
    the cross-entropy of the object score (weight 1). Of several candidate masks, the loss is that of the best one; the
    predicted IoU of all is trained.

    Args:
        logits: float32 (N, M, H, W), ungated, at the truth's resolution: M candidates for each mask.
        truth: bool (N, H, W).
        iou: float32 (N, M), the model's predicted IoU of each candidate.
        score: float32 (N,), object score logits.
        name: of the loss.
        balance: of ``"synthfm3d"``: 0 gives every pixel the same weight, 1 inside and outside the same total weight;
            values between interpolate geometrically.
    """
    # Loss of each candidate mask.
    target = truth[:, None].float()
    present = truth.flatten(1).any(1).float()
    probability = logits.sigmoid()
    if name == "sam2":
        masks = (_FOCAL * _focal(logits, probability, target) + _soft_dice(probability, target)) * present[:, None]
    elif name == "dice":
        masks = _soft_dice(probability, target)
    else:
        masks = _balanced_entropy(logits, target, balance)
        masks = masks + torch.where(present[:, None] > 0, _soft_dice(probability, target), _spurious(probability))
    # Of the candidates the best one counts; the predicted IoU of all, and the object score.
    best = masks.gather(1, masks.detach().argmin(1, keepdim=True))[:, 0]
    real_iou, dice = _iou_and_dice(logits.detach() > 0, truth[:, None])
    guess = (iou - real_iou).abs().mean(1) * present
    appears = F.binary_cross_entropy_with_logits(score, present, reduction="none")
    # Dice of the candidate that inference would use.
    used = dice.gather(1, iou.detach().argmax(1, keepdim=True))[:, 0]
    hard = (used * present).sum() / present.sum().clamp(min=1)
    return MaskLoss(best + _IOU[name] * guess + appears, hard)


def _soft_dice(probability: Tensor, target: Tensor) -> Tensor:
    """Return one minus soft Dice, (N, M), with one pixel added to both sides."""
    overlap = (probability * target).sum((2, 3))
    return 1 - (2 * overlap + 1) / (probability.sum((2, 3)) + target.sum((2, 3)) + 1)


def _focal(logits: Tensor, probability: Tensor, target: Tensor) -> Tensor:
    """Return the focal loss, (N, M)."""
    entropy = F.binary_cross_entropy_with_logits(logits, target.expand_as(logits), reduction="none")
    right = probability * target + (1 - probability) * (1 - target)
    side = _ALPHA * target + (1 - _ALPHA) * (1 - target)
    return (side * entropy * (1 - right) ** _GAMMA).mean((2, 3))


def _balanced_entropy(logits: Tensor, target: Tensor, balance: float) -> Tensor:
    """Return the cross-entropy, (N, M), with weights of inside and outside; see ``mask_loss``."""
    share = target.mean((2, 3), keepdim=True).clamp(1e-4, 1 - 1e-4)
    weight = torch.where(target > 0, share, 1 - share) ** -balance
    entropy = F.binary_cross_entropy_with_logits(logits, target.expand_as(logits), reduction="none")
    return (entropy * weight).sum((2, 3)) / weight.sum((2, 3))


def _spurious(probability: Tensor) -> Tensor:
    """Return the loss (N, M) of masks with an empty truth, for which Dice is 0 whatever is predicted.

    It is one minus a hundredth of the slice over that and the predicted area.
    """
    covered = probability.mean((2, 3))
    return covered / (covered + 0.01)


def _iou_and_dice(hard: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Return the IoU and the Dice, (N, M), of bool masks."""
    both = (hard & truth).sum((2, 3)).float()
    sizes = (hard.sum((2, 3)) + truth.sum((2, 3))).float()
    return both / (sizes - both).clamp(min=1), 2 * both / sizes.clamp(min=1)
