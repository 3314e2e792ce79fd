"""What the clicks themselves say of a voxel, beside what SAM 2 makes of them."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from synthfm_env.segmenters.click_distances import ClickDistances
from synthfm_env.segmenters.sam2.multiview.view import Box

_WEIGHT = 2.0  # logits at most, far from clicks: a quarter of what a view says that is sure
_CLICKED = 16.0  # logits at a click: twice what a view can say against it
_REACH = 5.0  # flat voxels from a click at which that has fallen to 1/e


class Evidence(NamedTuple):
    """What follows from geodesic distances to the clicks alone; float32 (d, h, w), each from -1 to 1.

    Attributes:
        far: everywhere the signed square root of the balance between positive and negative distances: the rule of
            Bai & Sapiro (IJCV 2009), the border counting as negative.
        near: close to a click, where no edge lies between, its own label, falling off with ``exp(-distance)``, as
            MIDeepSeg fuses clicks into a network's answer (Luo et al. 2021, Medical Image Analysis 72:102102).
    """

    far: Tensor
    near: Tensor

    @property
    def logits(self) -> Tensor:
        """Logits to be added to a view's: a weak second opinion, and a strong one close to clicks."""
        return _WEIGHT * self.far + _CLICKED * self.near


def evidence(distances: ClickDistances, box: Box, shape: tuple[int, int, int]) -> Evidence:
    """Return what the distances say.

    Args:
        distances: to the clicks so far.
        box: of the image.
        shape: of the wanted grid, which is spread evenly over the box.
    """
    balance, inside, outside = distances.balance, distances.to_positive, distances.to_negative
    far = np.sign(balance) * np.sqrt(np.abs(balance))
    near = np.exp(-np.minimum(inside, outside) / _REACH) * np.sign(outside - inside)
    places = [
        side.start + (np.arange(count) + 0.5) * ((side.stop - side.start) / count) - 0.5
        for side, count in zip(box, shape, strict=True)
    ]
    return Evidence(*(torch.from_numpy(distances.grid.sample(one, places)) for one in (far, near)))
