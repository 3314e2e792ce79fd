"""Simulated prompts for training: many 2D masks at once, on the model's own grid.

All draws come from a generator on the CPU, so that they are the same wherever the masks lie.
"""

import torch
import torch.nn.functional as F
from sam2.utils.misc import mask_to_box
from torch import Tensor

# Widths of the box that measures how deep inside an error a pixel lies: 1 is a uniform draw over the error (SAM 2's
# training sampler), wide ones come near the centre of the largest piece (SAM 2's and RITM's evaluation click).
_WIDTHS = (1, 5, 11, 21)
_FROM_TRUTH = 0.1  # SAM 2 samples a tenth of the corrections from the truth, error or not
_BOX_NOISE, _BOX_NOISE_PIXELS = 0.1, 20.0  # each side of a box moves by this share of its length, at most


def correction(predicted: Tensor, truth: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw one click per mask from where the prediction is wrong.

    The side, missed or wrongly covered, is the one with the deeper pixel; the click falls at random among the
    pixels at least a random share as deep as the deepest. An empty prediction gives a first click. Without any
    error, and in a tenth of the cases, the click is drawn from the truth (positive), or from the background
    (negative) where the truth is empty.

    Args:
        predicted: bool (N, H, W).
        truth: bool (N, H, W).
        generator: source of all draws, on the CPU.

    Returns:
        points: float32 (N, 1, 2), (x, y) in pixels.
        labels: int32 (N, 1), 1 positive, 0 negative.
    """
    n, _, w = truth.shape
    width = _WIDTHS[int(torch.randint(len(_WIDTHS), (1,), generator=generator))]
    chance = torch.rand((n, 3), generator=generator).to(truth.device)
    missed, wrong = truth & ~predicted, predicted & ~truth
    no_error = ~(missed | wrong).flatten(1).any(1)
    from_truth = no_error | (chance[:, 0] < _FROM_TRUTH)
    has_truth = truth.flatten(1).any(1)
    missed = torch.where((from_truth & has_truth)[:, None, None], truth, missed)
    wrong = torch.where((from_truth & has_truth)[:, None, None], torch.zeros_like(wrong), wrong)
    background = (no_error & ~has_truth)[:, None, None]
    wrong = torch.where(background, torch.ones_like(wrong), wrong)

    sides = torch.stack((missed, wrong), 1).float()
    columns = F.avg_pool2d(sides, (width, 1), stride=1, padding=(width // 2, 0))
    depth = F.avg_pool2d(columns, (1, width), stride=1, padding=(0, width // 2)) * sides
    deepest = depth.flatten(2).amax(2)
    positive = deepest[:, 0] > deepest[:, 1]
    side = torch.where(positive[:, None, None], depth[:, 0], depth[:, 1]).flatten(1)
    share = 0.3 + 0.7 * chance[:, 1]
    eligible = (side > 0) & (side >= share[:, None] * side.amax(1, keepdim=True))
    # One number a mask picks among its pixels in their order: a number a pixel takes longer to draw than all the rest.
    so_far = eligible.cumsum(1, dtype=torch.int32)
    rank = (chance[:, 2:] * so_far[:, -1:]).int()
    index = (so_far > rank).int().argmax(1)
    points = torch.stack((index % w, index // w), -1).float()
    return points[:, None], positive.int()[:, None]


def noisy_box(truth: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw a box around each mask as SAM 2's training does: every side moved by up to a tenth, at most 20 pixels.

    Args:
        truth: bool (N, H, W), none empty.
        generator: source of all draws, on the CPU.

    Returns:
        points: float32 (N, 2, 2), (x, y) of the upper left and the lower right corner, inside the image.
        labels: int32 (N, 2), 2 and 3: the corners, to SAM 2's prompt encoder.
    """
    n, h, w = truth.shape
    box = mask_to_box(truth[:, None])[:, 0].float()
    sides = (box[:, 2:] - box[:, :2]).repeat(1, 2)
    noise = 2 * torch.rand((n, 4), generator=generator).to(truth.device) - 1
    box = box + noise * (sides * _BOX_NOISE).clamp(max=_BOX_NOISE_PIXELS)
    last = torch.tensor([w - 1, h - 1, w - 1, h - 1], device=truth.device)
    points = torch.minimum(box.clamp(min=0), last).view(n, 2, 2)
    return points, torch.tensor([[2, 3]], dtype=torch.int32, device=truth.device).repeat(n, 1)
