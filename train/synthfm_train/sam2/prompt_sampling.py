"""Samples clicks and boxes for many 2D masks at once, on the model's grid.

Random numbers come from a generator on the CPU, so that they are the same for masks on any device.
"""

import torch
import torch.nn.functional as F
from sam2.utils.misc import mask_to_box
from torch import Tensor

# The depth of a pixel inside an error is the mean of the error in a box of one of these widths. Width 1 gives a uniform
# draw over the error (SAM 2's training sampler). Large widths give clicks near the centre of the largest part (SAM 2's
# and RITM's evaluation click).
_WIDTHS = (1, 5, 11, 21)
_FROM_TRUTH = 0.1  # share of clicks that are drawn from the truth instead of the error, as in SAM 2
_BOX_NOISE, _BOX_NOISE_PIXELS = 0.1, 20.0  # a side of a box moves by at most this share of its length and these pixels


def correction(predicted: Tensor, truth: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw one click per mask inside the prediction's errors.

    The click is positive if the deepest pixel of the errors is a missed one, negative if it is a false one. Its pixel
    is drawn from those at least a random share as deep as the deepest. Without an error, and in a tenth of all cases,
    the click is drawn from the truth (positive); without an error and with an empty truth from the background
    (negative). An empty prediction gives a first click.

    Args:
        predicted: bool (N, H, W).
        truth: bool (N, H, W).
        generator: random generator on the CPU.

    Returns:
        points: float32 (N, 1, 2), (x, y) in pixels.
        labels: int32 (N, 1), 1 positive, 0 negative.
    """
    # Missed and false pixels, or the truth or the background in place of them.
    n, _, w = truth.shape
    width = _WIDTHS[int(torch.randint(len(_WIDTHS), (1,), generator=generator))]
    chance = torch.rand((n, 3), generator=generator).to(truth.device)
    missed, false = truth & ~predicted, predicted & ~truth
    no_error = ~(missed | false).flatten(1).any(1)
    from_truth = no_error | (chance[:, 0] < _FROM_TRUTH)
    has_truth = truth.flatten(1).any(1)
    missed = torch.where((from_truth & has_truth)[:, None, None], truth, missed)
    false = torch.where((from_truth & has_truth)[:, None, None], torch.zeros_like(false), false)
    background = (no_error & ~has_truth)[:, None, None]
    false = torch.where(background, torch.ones_like(false), false)
    # Depth of each pixel, and the sign with the deeper one.
    sides = torch.stack((missed, false), 1).float()
    columns = F.avg_pool2d(sides, (width, 1), stride=1, padding=(width // 2, 0))
    depth = F.avg_pool2d(columns, (1, width), stride=1, padding=(0, width // 2)) * sides
    deepest = depth.flatten(2).amax(2)
    positive = deepest[:, 0] > deepest[:, 1]
    side = torch.where(positive[:, None, None], depth[:, 0], depth[:, 1]).flatten(1)
    share = 0.3 + 0.7 * chance[:, 1]
    eligible = (side > 0) & (side >= share[:, None] * side.amax(1, keepdim=True))
    # Choose among the eligible pixels by one random number for each mask, their rank. A random number for each pixel
    # would take longer than all the rest.
    so_far = eligible.cumsum(1, dtype=torch.int32)
    rank = (chance[:, 2:] * so_far[:, -1:]).int()
    index = (so_far > rank).int().argmax(1)
    points = torch.stack((index % w, index // w), -1).float()
    return points[:, None], positive.int()[:, None]


def noisy_box(truth: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw a box around each mask as in SAM 2's training: each side is moved by up to a tenth, at most 20 pixels.

    Args:
        truth: bool (N, H, W), none empty.
        generator: random generator on the CPU.

    Returns:
        points: float32 (N, 2, 2), (x, y) of the upper left and the lower right corner, inside the image.
        labels: int32 (N, 2), 2 and 3, which mark box corners for SAM 2's prompt encoder.
    """
    n, h, w = truth.shape
    box = mask_to_box(truth[:, None])[:, 0].float()
    sides = (box[:, 2:] - box[:, :2]).repeat(1, 2)
    noise = 2 * torch.rand((n, 4), generator=generator).to(truth.device) - 1
    box = box + noise * (sides * _BOX_NOISE).clamp(max=_BOX_NOISE_PIXELS)
    last = torch.tensor([w - 1, h - 1, w - 1, h - 1], device=truth.device)
    points = torch.minimum(box.clamp(min=0), last).view(n, 2, 2)
    return points, torch.tensor([[2, 3]], dtype=torch.int32, device=truth.device).repeat(n, 1)
