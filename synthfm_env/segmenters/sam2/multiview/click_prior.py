"""Computes a click prior: logits from geodesic distances to the clicks, which are added to SAM 2's."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from synthfm_env.geometry import Crop
from synthfm_env.segmenters.click_distances import ClickDistances
from synthfm_env.segmenters.sam2.multiview.confidence import CERTAIN_LOGIT

_FAR_LOGIT = CERTAIN_LOGIT / 4  # largest logit of ``far``: a weak prior
_CLICK_LOGIT = 2 * CERTAIN_LOGIT  # largest logit of ``near``: stronger than a certain view
_REACH = 5.0  # ``near`` falls to 1/e over this distance from a click, in voxels of flat image


class ClickPrior(NamedTuple):
    """Two priors from geodesic distances to the clicks, float32 (d, h, w), each from -1 to 1.

    Attributes:
        far: signed square root of the balance between positive and negative distances, everywhere. The rule is that of
            Bai & Sapiro (IJCV 2009); the image's border counts as a negative click.
        near: the label of the nearest click, weighted by ``exp(-distance)``, so that it ends at edges. MIDeepSeg fuses
            clicks into a network's answer in this way (Luo et al. 2021, Medical Image Analysis 72:102102).
    """

    far: Tensor
    near: Tensor

    @property
    def logits(self) -> Tensor:
        """Logits of both priors: weak far from clicks, strong close to them."""
        return _FAR_LOGIT * self.far + _CLICK_LOGIT * self.near


def click_prior(distances: ClickDistances, crop: Crop, shape: tuple[int, int, int]) -> ClickPrior:
    """Compute the priors on a grid.

    Args:
        distances: to the clicks so far.
        crop: of the image.
        shape: (d, h, w) of the grid, which covers the crop evenly.
    """
    balance, inside, outside = distances.balance, distances.to_positive, distances.to_negative
    far = np.sign(balance) * np.sqrt(np.abs(balance))
    near = np.exp(-np.minimum(inside, outside) / _REACH) * np.sign(outside - inside)
    # Sample both at the centres of the grid's voxels, in voxels of the image.
    places = [
        side.start + (np.arange(count) + 0.5) * ((side.stop - side.start) / count) - 0.5
        for side, count in zip(crop, shape, strict=True)
    ]
    return ClickPrior(*(torch.from_numpy(distances.grid.sample(values, places)) for values in (far, near)))
