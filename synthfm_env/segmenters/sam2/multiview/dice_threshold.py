"""Chooses the threshold of a mask so that its expected Dice is greatest."""

import math

import torch
from torch import Tensor

from synthfm_env.segmenters.sam2.multiview.confidence import CERTAIN_LOGIT

_BINS = 160  # of a tenth of a logit
_SURE = -4.0  # voxels of lower logits never belong to the mask, however many they are


def dice_threshold(logits: Tensor, clicks: int) -> float:
    """Return the logit above which voxels belong to the mask of the greatest expected Dice.

    The Dice of a mask is expected to be twice the sum of its voxels' probabilities, over the sum of all probabilities
    and the size of the mask. Whoever maximises it includes voxels of less than one half: after a first click, when it
    is open how far the structure reaches, a larger mask loses less than a smaller one. Logits are too sure of
    themselves then, so they are divided by a temperature of ``1 + 1 / clicks`` first.

    Source: the threshold as in Lipton et al. (2014, "Optimal thresholding of classifiers to maximize F1 measure"); the
    temperature as in Guo et al. (2017, "On calibration of modern neural networks"), its course chosen here on
    synthetic images.

    Args:
        logits: float32, of any shape.
        clicks: that were answered, 1 or more.

    Returns:
        -4 to 0.

    Example:
        >>> logits = torch.tensor([2.0] * 10 + [-1.0] * 10 + [-7.0] * 80)
        >>> [round(dice_threshold(logits, clicks), 1) for clicks in (1, 5)]
        [-1.4, -0.5]
    """
    temperature = 1 + 1 / clicks
    step = 2 * CERTAIN_LOGIT / _BINS
    # Sorting all voxels would give the same, many times slower.
    counts = torch.histc(logits.clamp(-CERTAIN_LOGIT, CERTAIN_LOGIT), _BINS, -CERTAIN_LOGIT, CERTAIN_LOGIT).double()
    middles = (torch.arange(_BINS, dtype=torch.float64) + 0.5) * step - CERTAIN_LOGIT
    expected = counts * (middles / temperature).sigmoid()
    # From the highest bin down: the voxels of a mask that ends with each bin, and those expected inside.
    size, inside = counts.flip(0).cumsum(0), expected.flip(0).cumsum(0)
    highest = float((2 * inside / (inside[-1] + size)).max())
    # The best mask contains the voxels whose probability is more than half of its Dice. This moves little if logits do,
    # other than the bin that the best mask ends with.
    return max(_SURE, temperature * math.log(highest / (2 - highest)))
