"""A prior for the volume network's logits: geodesic distances to the clicks on the crop's own grid."""

from collections.abc import Sequence

import torch
from torch import Tensor

from synthfm_env.segmenters.volume_network.geodesic_sweeps import geodesic_maps
from synthfm_env.segmenters.volume_network.network_input import (
    GridPrompt,
    click_seeds,
    edge_costs,
    normalised_images,
)

WEIGHT = 3.0  # logits at a positive click; minus that at a negative one and at the crop's faces


def click_prior(prompts: Sequence[GridPrompt]) -> Tensor:
    """Return logits that follow from the clicks alone.

    The prior is positive if the cheapest path to a positive click is cheaper than those to a negative click and to the
    crop's faces, as in ``geodesic``. The network has the same distances among its channels, at half the resolution;
    adding them to its logits helps on real images, whose borders it has not seen in training.

    Args:
        prompts: crops on one grid.

    Returns:
        float32 (B, d, h, w), between -``WEIGHT`` and ``WEIGHT``.
    """
    images = normalised_images(prompts)
    _, d, h, w = images.shape
    seeds = torch.stack([click_seeds(prompt, (d, h, w)) for prompt in prompts])
    positive, negative, border = geodesic_maps(edge_costs(images), seeds, images.new_ones(len(images), 3)).unbind(1)
    outside = torch.minimum(negative, border)
    return WEIGHT * (outside - positive) / (outside + positive + 1)
