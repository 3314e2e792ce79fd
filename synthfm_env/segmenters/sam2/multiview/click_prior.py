"""A click prior: logits from geodesic distances to the clicks, added to those of SAM 2."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from synthfm_env.geometry import Crop
from synthfm_env.segmenters.click_distances import ClickDistances
from synthfm_env.segmenters.sam2.multiview.confidence import CERTAIN_LOGIT

_FAR_LOGIT = CERTAIN_LOGIT / 4  # largest logit far from clicks: a weak prior
_CLICK_LOGIT = 2 * CERTAIN_LOGIT  # largest logit at a click: it overrules a certain view
_REACH = 5.0  # voxels of flat image from a click at which its logit has fallen to 1/e


class ClickPrior(NamedTuple):
    """Two priors from geodesic distances to the clicks, float32 (d, h, w), each from -1 to 1.

    Attributes:
        far: everywhere, the signed square root of the balance between positive and negative distances: the rule of
            Bai & Sapiro (IJCV 2009), with the image's border as negative.
        near: close to a click, if no edge is between, its own label, falling off with ``exp(-distance)``, as
            MIDeepSeg fuses clicks into a network's answer (Luo et al. 2021, Medical Image Analysis 72:102102).
    """

    far: Tensor
    near: Tensor

    @property
    def logits(self) -> Tensor:
        """Logits to add to those of the views: weak far from clicks, strong close to them."""
        return _FAR_LOGIT * self.far + _CLICK_LOGIT * self.near


def click_prior(distances: ClickDistances, crop: Crop, shape: tuple[int, int, int]) -> ClickPrior:
    """Compute the priors on a grid.

    Args:
        distances: to the clicks so far.
        crop: of the image.
        shape: (d, h, w) of the wanted grid, which is spread evenly over the crop.
    """
    balance, inside, outside = distances.balance, distances.to_positive, distances.to_negative
    far = np.sign(balance) * np.sqrt(np.abs(balance))
    near = np.exp(-np.minimum(inside, outside) / _REACH) * np.sign(outside - inside)
    # Centres of the grid's voxels, in voxels of the image.
    places = [
        side.start + (np.arange(count) + 0.5) * ((side.stop - side.start) / count) - 0.5
        for side, count in zip(crop, shape, strict=True)
    ]
    return ClickPrior(*(torch.from_numpy(distances.grid.sample(values, places)) for values in (far, near)))
