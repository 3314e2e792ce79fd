"""Computes the loss of a new image encoder that reproduces the maps of another one."""

import torch
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor

from synthfm_train.sam2.rollout import encode_slices


def distillation_loss(model: SAM2Base, teacher: SAM2Base, frames: Tensor) -> Tensor:
    """Return the squared difference of the maps of both image encoders, as a share of the variance of the teacher's.

    Each channel of the maps at stride 4, 8 and 16 counts alike. A model that reproduces them can go on with the
    teacher's prompt encoder, memory and mask decoder ("feature distillation", Romero et al. 2015).

    Args:
        model: whose image encoder is trained.
        teacher: with frozen weights.
        frames: float32 (B, T, 3, S, S), normalised.
    """
    with torch.no_grad():
        expected, _ = encode_slices(teacher, frames)
    found, _ = encode_slices(model, frames)
    return torch.stack([_unexplained(a.float(), b.float()) for a, b in zip(found, expected, strict=True)]).mean()


def _unexplained(found: Tensor, expected: Tensor) -> Tensor:
    """Return the unexplained share of the variance of (B, C, h, w), the mean over channels."""
    places = (0, 2, 3)
    # A channel that hardly varies must not weigh the more for it.
    variance = expected.var(places)
    return ((found - expected).square().mean(places) / (variance + 0.1 * variance.mean() + 1e-6)).mean()
