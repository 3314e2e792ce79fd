"""Losses on mask logits before the object score gates them.

SAM 2 writes -1024 into the logits of a slice whose object score is not positive. A loss behind that gate gives no
gradient to the mask while a random score is negative, and the model learns to predict nothing; so the masks are
scored in front of it and the object score by itself.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class MaskLoss(NamedTuple):
    """Loss of one prediction of N masks, and what it was made of (detached)."""

    total: Tensor
    dice: Tensor


def mask_loss(logits: Tensor, truth: Tensor, iou: Tensor, score: Tensor, balance: float) -> MaskLoss:
    """Score one prediction.

    Soft Dice and cross-entropy on the mask (weights 1 and 1), the predicted IoU (L1, 0.1) and the object score
    (cross-entropy, 1). Where the truth is empty the area predicted takes the place of Dice: unlike in SAM 2 the
    mask learns to be empty, because, with the object score alone to end it, a short training tracks every object to
    the last slice.

    An object covers a few percent of a slice, and plain cross-entropy first teaches that share alone: a random
    model predicts nothing for thousands of steps. With ``balance`` 1 inside and outside weigh the same, and a
    model can do no better than to look at the click.

    Args:
        logits: float32 (N, H, W), ungated, at the truth's resolution.
        truth: bool (N, H, W).
        iou: float32 (N,), the model's own guess of its IoU.
        score: float32 (N,), object score logits.
        balance: 0 weighs every pixel the same, 1 the two sides of the mask; in between, geometrically.

    Returns:
        The mean loss, and the hard Dice over masks whose truth is not empty.
    """
    target = truth.float()
    present = truth.flatten(1).any(1).float()
    count = present.sum().clamp(min=1)
    probability = logits.sigmoid()
    overlap = (probability * target).sum((1, 2))
    soft = 1 - (2 * overlap + 1) / (probability.sum((1, 2)) + target.sum((1, 2)) + 1)
    share = target.mean((1, 2), keepdim=True).clamp(1e-4, 1 - 1e-4)
    weight = torch.where(truth, share, 1 - share) ** -balance
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    entropy = (entropy * weight).sum((1, 2)) / weight.sum((1, 2))
    with torch.no_grad():
        hard = logits > 0
        both = (hard & truth).sum((1, 2)).float()
        sizes = (hard.sum((1, 2)) + truth.sum((1, 2))).float()
        real_iou = both / (sizes - both).clamp(min=1)
        hard_dice = ((2 * both / sizes.clamp(min=1)) * present).sum() / count
    guess = (iou - real_iou).abs()
    # Dice is blind to how much is wrong where nothing is right; against a hundredth of the slice it is not.
    covered = probability.mean((1, 2))
    spurious = covered / (covered + 0.01)
    masks = (entropy + torch.where(present > 0, soft + 0.1 * guess, spurious)).mean()
    appears = F.binary_cross_entropy_with_logits(score, present)
    return MaskLoss(masks + appears, hard_dice)


def contrastive_loss(embeddings: Tensor, labels: Tensor, temperature: float = 0.1) -> Tensor:
    """Supervised contrastive loss among the pixels of each image (Khosla et al. 2020, its ``L_out``).

    Args:
        embeddings: float32 (B, P, C), unit length.
        labels: integer (B, P).
        temperature: of the softmax over the other pixels of the image.
    """
    similarity = embeddings @ embeddings.transpose(1, 2) / temperature
    itself = torch.eye(similarity.shape[1], dtype=torch.bool, device=similarity.device)
    similarity = similarity.masked_fill(itself, -1e9)
    same = (labels[:, :, None] == labels[:, None, :]) & ~itself
    log_share = similarity.log_softmax(-1)
    pairs = same.sum(-1)
    per_pixel = -(log_share * same).sum(-1) / pairs.clamp(min=1)
    return per_pixel[pairs > 0].mean()
