"""Computes a prior for the volume network's logits from geodesic distances to the clicks."""

import torch.nn.functional as F
from torch import Tensor

from synthfm_env.segmenters.volume_network.network_input import NetworkInput

WEIGHT = 3.0  # logit at a positive click; -3 at a negative one and at the crop's faces


def click_prior(given: NetworkInput) -> Tensor:
    """Return logits from the geodesic distances to the clicks.

    The prior is positive if the cheapest path to a positive click is cheaper than those to a negative click and to the
    crop's faces, as in ``geodesic``. The network reads the same balance of distances as its first coarse channel.
    Adding it to the logits too helps on real images, whose kinds of borders are not in the training data.

    Args:
        given: input of a batch of crops.

    Returns:
        float32 (B, d, h, w), between -``WEIGHT`` and ``WEIGHT``.
    """
    balance = F.interpolate(given.coarse[:, :1], given.fine.shape[2:], mode="trilinear", align_corners=False)
    return WEIGHT * balance[:, 0]
