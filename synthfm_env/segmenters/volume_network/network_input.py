"""Builds the input channels of the volume network from a crop's image, clicks and previous logits."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from synthfm_env.segmenters.volume_network.geodesic_sweeps import geodesic_maps

FINE_CHANNELS = 7  # on the crop's grid
COARSE_CHANNELS = 4  # on the grid of half the resolution
_FLAT_IMAGE = 4.0  # grey levels added to an image's deviation, so that the noise of a flat image is not amplified
_LIKENESS = 0.35  # likeness falls to 1/e over this difference, in deviations of grey
_BLOB = 1.2  # standard deviation of a click's blob, in voxels of the grid
MAX_LOGIT = 8.0  # previous logits are clipped to this size
_EDGE = 0.08  # gradient that doubles the cost of a step, in deviations of grey per voxel
_THIN = 8  # an axis of fewer voxels has no faces
_MAX_LOG_COST = 6.0  # typical log(1 + d) of a far voxel, to which distances are scaled


@dataclass(frozen=True, slots=True, eq=False)
class GridPrompt:
    """A crop on the network's grid with its clicks and the previous answer.

    Attributes:
        image: float32 (d, h, w), 0 to 255.
        logits: float32 (d, h, w), of the previous answer; None before the first.
        places: float32 (n, 3), the clicks in voxels of the grid, z, y, x. Clicks outside the grid have no effect.
        positive: sign of each click.
    """

    image: Tensor
    logits: Tensor | None
    places: Tensor
    positive: Sequence[bool]

    def to(self, device: torch.device) -> "GridPrompt":
        """Return the prompt with its image and logits on a device."""
        logits = None if self.logits is None else self.logits.to(device)
        return GridPrompt(self.image.to(device), logits, self.places, self.positive)


class NetworkInput(NamedTuple):
    """Input channels of a batch.

    Attributes:
        fine: float32 (B, FINE_CHANNELS, d, h, w).
        coarse: float32 (B, COARSE_CHANNELS, d', h', w'), half as many voxels along each side.
    """

    fine: Tensor
    coarse: Tensor


def network_input(prompts: Sequence[GridPrompt]) -> NetworkInput:
    """Build the channels of a batch of crops that share one grid.

    Fine channels: the normalised image; likeness to the grey values under positive and under negative clicks;
    Gaussian blobs at both; the previous logits and mask. Coarse channels: two balances of geodesic distances (positive
    clicks against negative clicks and the crop's faces, and against negative clicks alone) and both distances, on a log
    scale.
    """
    images = _normalised_images(prompts)
    fine = images.new_zeros(len(prompts), FINE_CHANNELS, *images.shape[1:])
    fine[:, 0] = images
    for channels, prompt in zip(fine, prompts, strict=True):
        for place, voxel, positive in _clicks_inside(prompt):
            _add_likeness(channels[1 if positive else 2], channels[0], voxel)
            _add_blob(channels[3 if positive else 4], place)
        if prompt.logits is not None:
            channels[5] = prompt.logits.clamp(-MAX_LOGIT, MAX_LOGIT) / (MAX_LOGIT / 2)
            channels[6] = prompt.logits > 0
    half = _half_shape(images.shape[1:])
    seeds = torch.stack([_click_seeds(prompt, half) for prompt in prompts])
    return NetworkInput(fine, _coarse_channels(F.adaptive_avg_pool3d(images[:, None], half)[:, 0], seeds))


def geodesic_balances(prompts: Sequence[GridPrompt]) -> Tensor:
    """Return what ``geodesic`` would compare on each crop: distances to positive clicks and to all that is outside.

    Args:
        prompts: their images, which share one grid, and their clicks are used.

    Returns:
        float32 (B, d, h, w), from 1 at a positive click to -1 at a negative one and at the crop's faces.
    """
    images = _normalised_images(prompts)
    seeds = torch.stack([_click_seeds(prompt, images.shape[1:]) for prompt in prompts])
    seeds = torch.stack((seeds[:, 0], seeds[:, 1] | seeds[:, 2]), 1)
    maps = geodesic_maps(_edge_costs(images), seeds, images.new_ones(len(images), 3))
    inside, outside = maps.unbind(1)
    return _balance(outside, inside)


def _balance(far: Tensor, near: Tensor) -> Tensor:
    return (far - near) / (far + near + 1)


def _normalised_images(prompts: Sequence[GridPrompt]) -> Tensor:
    """Return each crop less its mean, over its deviation; float32 (B, d, h, w)."""
    images = torch.stack([prompt.image for prompt in prompts])
    spread = images.std((1, 2, 3), correction=0) + _FLAT_IMAGE
    return (images - images.mean((1, 2, 3))[:, None, None, None]) / spread[:, None, None, None]


def _click_seeds(prompt: GridPrompt, shape: Sequence[int]) -> Tensor:
    """Mark positive clicks, negative clicks and the faces of a grid.

    Args:
        prompt: its clicks are marked.
        shape: of the grid, as fine as the prompt's or coarser.

    Returns:
        bool (3, *shape). A thin axis has no faces, since they would be most of the grid.
    """
    seeds = torch.zeros(3, *shape, dtype=torch.bool, device=prompt.image.device)
    for _, voxel, positive in _clicks_inside(prompt):
        at = (min(v * n // m, n - 1) for v, n, m in zip(voxel, shape, prompt.image.shape, strict=True))
        seeds[(0 if positive else 1, *at)] = True
    for axis, n in enumerate(shape):
        if n >= _THIN:
            seeds[2].select(axis, 0)[...] = True
            seeds[2].select(axis, n - 1)[...] = True
    return seeds


def _edge_costs(images: Tensor) -> Tensor:
    """Return the cost of passing each voxel, 1 in flat regions; float32 (B, d, h, w).

    Args:
        images: normalised, (B, d, h, w).
    """
    squares = torch.zeros_like(images)
    for axis, n in enumerate(images.shape[1:], 1):
        if n > 1:
            squares += torch.gradient(images, dim=axis)[0] ** 2
    return 1 + squares / _EDGE**2


def _clicks_inside(prompt: GridPrompt) -> Iterator[tuple[list[float], list[int], bool]]:
    """Yield place, nearest voxel and sign of each click inside the grid."""
    for place, positive in zip(prompt.places.tolist(), prompt.positive, strict=True):
        voxel = [round(at) for at in place]
        if all(0 <= at < n for at, n in zip(voxel, prompt.image.shape, strict=True)):
            yield place, voxel, positive


def _add_likeness(channel: Tensor, image: Tensor, voxel: Sequence[int]) -> None:
    around = tuple(slice(max(0, at - 1), at + 2) for at in voxel)
    difference = (image - image[around].mean()).abs_()
    torch.maximum(channel, difference.mul_(-1 / _LIKENESS).exp_(), out=channel)


def _add_blob(channel: Tensor, place: Sequence[float]) -> None:
    z, y, x = (
        torch.exp((torch.arange(n, device=channel.device) - at) ** 2 / (-2 * _BLOB**2))
        for n, at in zip(channel.shape, place, strict=True)
    )
    torch.maximum(channel, z[:, None, None] * (y[:, None] * x), out=channel)


def _half_shape(shape: Sequence[int]) -> tuple[int, int, int]:
    d, h, w = shape
    return (max(1, d // 2), max(1, h // 2), max(1, w // 2))


def _coarse_channels(images: Tensor, seeds: Tensor) -> Tensor:
    maps = geodesic_maps(_edge_costs(images), seeds, images.new_ones(len(images), 3))
    positive, negative, border = maps.unbind(1)
    outside = torch.minimum(negative, border)
    return torch.stack(
        (
            _balance(outside, positive),
            _balance(negative, positive),
            torch.log1p(positive).clamp_(max=2 * _MAX_LOG_COST) / _MAX_LOG_COST - 1,
            torch.log1p(negative).clamp_(max=2 * _MAX_LOG_COST) / _MAX_LOG_COST - 1,
        ),
        1,
    )
