"""What the clicks themselves say of a voxel, beside what SAM 2 makes of them."""

import numpy as np
import torch
from torch import Tensor

from synthfm_env.segmenters.click_distances import ClickDistances
from synthfm_env.segmenters.sam2.planes import Box

_WEIGHT = 2.0  # logits at most, far from clicks: a quarter of what a view says that is sure
_CLICKED = 16.0  # logits at a click: twice what a view can say against it
_REACH = 5.0  # flat voxels from a click at which that has fallen to 1/e


def evidence(distances: ClickDistances, box: Box, shape: tuple[int, int, int]) -> Tensor:
    """Return logits to be added to a view's, which follow from geodesic distances to the clicks alone.

    Two terms. Everywhere the signed square root of the balance between positive and negative distances: the rule of
    Bai & Sapiro (IJCV 2009), the border counting as negative, as a weak second opinion. And close to a click, where
    no edge lies between, its own label, falling off with ``exp(-distance)``, as MIDeepSeg fuses clicks into a network's
    answer (Luo et al. 2021, Medical Image Analysis 72:102102).

    Args:
        distances: to the clicks so far.
        box: of the image.
        shape: of the wanted logits, which are spread evenly over the box.
    """
    balance, inside, outside = distances.balance, distances.to_positive, distances.to_negative
    far = _WEIGHT * np.sign(balance) * np.sqrt(np.abs(balance))
    near = _CLICKED * np.exp(-np.minimum(inside, outside) / _REACH) * np.sign(outside - inside)
    places = [
        side.start + (np.arange(count) + 0.5) * ((side.stop - side.start) / count) - 0.5
        for side, count in zip(box, shape, strict=True)
    ]
    return torch.from_numpy(distances.grid.sample(far + near, places))
