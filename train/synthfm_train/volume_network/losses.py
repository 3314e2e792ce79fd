"""Computes the training loss of the volume network on a batch of running episodes."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from synthfm_env.segmenters.volume_network.network import NetworkOutput

_SMOOTH = 20.0  # voxels added to both sides of the soft Dice
_QUALITY = 0.2  # weight of the predicted Dice's error


@dataclass(frozen=True, slots=True, eq=False)
class Losses:
    """Losses of a batch and what is logged of it.

    Attributes:
        total: scalar with gradient.
        dice: (B,), Dice of each answer with its whole structure.
        quality_error: scalar, mean absolute error of the predicted Dice.
    """

    total: Tensor
    dice: Tensor
    quality_error: Tensor


def losses(output: NetworkOutput, truths: Tensor, shares: Tensor) -> Losses:
    """Compute balanced cross-entropy plus soft Dice, and the error of the predicted Dice.

    Args:
        output: of the network.
        truths: float32 (B, d, h, w), share of each voxel that the structure covers.
        shares: float32 (B,), share of each structure inside its crop.
    """
    logits, axes = output.logits, (1, 2, 3)
    inside = truths.sum(axes)
    # A small structure weighs as much as half of its crop, up to a factor that keeps noise at its border small.
    ratio = ((truths[0].numel() - inside) / inside.clamp(min=1)).clamp(1, 10)[:, None, None, None]
    weight = 1 + (ratio - 1) * truths
    entropy = (F.binary_cross_entropy_with_logits(logits, truths, reduction="none") * weight).sum(axes) / weight.sum(
        axes
    )
    probability = logits.sigmoid()
    overlap = (probability * truths).sum(axes)
    soft = 1 - (2 * overlap + _SMOOTH) / (probability.sum(axes) + inside + _SMOOTH)
    with torch.no_grad():
        mask, whole = logits > 0, inside / shares.clamp(min=1e-3)
        dice = 2 * (mask & (truths > 0.5)).sum(axes) / (mask.sum(axes) + whole).clamp(min=1)
        dice.clamp_(max=1)
    error = (output.quality - dice).abs().mean()
    return Losses((entropy + soft).mean() + _QUALITY * error, dice, error.detach())
