"""SynthFM's boundary-aware images: SynthMorph clusters with eroded boundaries on a canvas of nearly one intensity.

Sources: SynthFM (Sengupta et al., ISBI 2025), section 3.1.2; the label maps are those of SynthMorph's "shapes"
(Hoffmann et al. 2021, demo code). The ranges marked as ours are in no text at hand.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import cc3d
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from synthfm_env.synthesis.anatomy.shapes import Rng
from synthfm_env.synthesis.background.clusters import eroded
from synthfm_env.synthesis.drawing.random_fields import fractal_field

# SynthMorph's demo draws images of 256 x 256: lengths are in its pixels and grow with the image.
_DEMO_SIDE = 256
_NOISE_SIZES = (32, 64)
_WARP_SIZES = (16, 32, 64)
_MOST_WARP = 16.0
_MOST_EROSIONS = 3  # ours, in pixels of the demo


@dataclass(frozen=True)
class CanvasRange:
    """The random numbers behind one canvas; intensities are in [0, 1].

    Attributes:
        low: lower end of the range of its values.
        high: upper end. One end is drawn uniformly, the other is slightly below or above it.
        scattered: share of the values that are spread over all of [0, 1] instead.
        shift: added to the canvas' mean to give the background, of either sign; the sum is clamped to [0, 1].
    """

    low: float
    high: float
    scattered: float
    shift: float

    @classmethod
    def draw(cls, rng: Rng) -> "CanvasRange":
        """Draw a range; its width of 0.02 to 0.2, 1 to 10 % scattered and a shift of 0.03 to 0.2 are ours."""
        one = rng.uniform(0.0, 1.0)
        other = float(np.clip(one + rng.choice((-1.0, 1.0)) * rng.uniform(0.02, 0.2), 0.0, 1.0))
        shift = rng.choice((-1.0, 1.0)) * rng.uniform(0.03, 0.2)
        return cls(float(min(one, other)), float(max(one, other)), float(rng.uniform(0.01, 0.1)), float(shift))


@dataclass(frozen=True, eq=False)
class BoundaryImage:
    """One boundary-aware image before blur and noise.

    Attributes:
        image: float32 (D, H, W), in [0, 1].
        label: int16 (D, H, W): each 6-connected part of the foreground, 0 for the boundaries.
        canvas: the range that the values were drawn from.
    """

    image: Tensor
    label: NDArray[np.int16]
    canvas: CanvasRange

    @property
    def metadata(self) -> dict[str, float]:
        """The canvas' numbers, for a volume's metadata."""
        return asdict(self.canvas)


def draw_boundary_image(
    shape: Sequence[int], count: tuple[int, int], rng: Rng, generator: torch.Generator
) -> BoundaryImage:
    """Draw clusters, erode a random subset of them, and paint both sides.

    1. Label map: the argmax of 10 to 15 smooth noise images, each warped by a random field of its own.
    2. A random subset of the clusters is eroded for a random number of steps. The clusters after erosion are the
       foreground, the eroded voxels are the background: a binary mask.
    3. Foreground: the canvas' values, each drawn on its own. Background: the canvas' mean and a small shift.

    Args:
        shape: (D, H, W).
        count: clusters at least and at most, up to 16.
        rng: draws the parameters.
        generator: draws the fields and the canvas; its device is used.
    """
    clusters = int(rng.integers(count[0], count[1] + 1))
    labels = synthmorph_map(shape, clusters, rng, generator)
    subset = rng.random(clusters) < rng.uniform(0.3, 1.0)
    subset[int(rng.integers(clusters))] = True
    unit = max(1.0, min(shape[1:]) / _DEMO_SIDE)
    steps = np.where(subset, np.ceil(rng.integers(1, _MOST_EROSIONS + 1, clusters) * unit), 0).astype(np.int64)
    foreground = eroded(labels, steps, across_slices=False) == 0
    canvas = CanvasRange.draw(rng)
    image = paint(foreground, canvas, generator)
    parts = cc3d.connected_components(foreground.cpu().numpy(), connectivity=6)
    # Parts beyond the range of int16 are specks of a large image and no structures.
    return BoundaryImage(image, np.where(parts > np.iinfo(np.int16).max, 0, parts).astype(np.int16), canvas)


def synthmorph_map(shape: Sequence[int], count: int, rng: Rng, generator: torch.Generator) -> Tensor:
    """Return int32 (D, H, W) labels 0..count-1: the argmax of smooth noise images, each seen through its own warp.

    Noise at 32 and 64 pixels, warps at 16, 32 and 64 pixels with standard deviations up to 16 pixels, as SynthMorph's
    demo has them at 256 x 256; each scale's strength is drawn uniformly. The warp moves pixels within a slice and is
    used as a displacement, not integrated. The demo's own code gives all images the same warp; the paper's text, and
    this function, give each its own.
    """
    depth, height, width = shape
    unit = min(height, width) / _DEMO_SIDE
    best = torch.full((depth, height, width), -torch.inf, device=generator.device)
    labels = torch.zeros((depth, height, width), dtype=torch.int32, device=generator.device)
    rows, columns = (torch.arange(n, device=generator.device, dtype=torch.float32) for n in (height, width))
    for k in range(count):
        noise = _layered(shape, _NOISE_SIZES, 1.0, unit, rng, generator)
        dy, dx = (_layered(shape, _WARP_SIZES, _MOST_WARP * unit, unit, rng, generator) for _ in range(2))
        # grid_sample places -1 and 1 at the outer edges of the first and the last pixel.
        x = (columns + dx).mul_(2).add_(1).div_(width).sub_(1)
        y = (rows[:, None] + dy).mul_(2).add_(1).div_(height).sub_(1)
        warped = F.grid_sample(noise[:, None], torch.stack((x, y), -1), padding_mode="border", align_corners=False)[
            :, 0
        ]
        higher = warped > best
        labels[higher] = k
        best = torch.maximum(best, warped)
    return labels


def _layered(
    shape: Sequence[int], sizes: Sequence[int], most: float, unit: float, rng: Rng, generator: torch.Generator
) -> Tensor:
    """Return a sum of smooth noise at several sizes, the standard deviation of each drawn up to ``most``."""
    out = torch.zeros(tuple(shape), device=generator.device)
    for size in sizes:
        out += fractal_field(shape, [max(2.0, size * unit)], [1.0], 1.0, generator).mul_(float(rng.uniform(0, most)))
    return out


def paint(foreground: Tensor, canvas: CanvasRange, generator: torch.Generator) -> Tensor:
    """Return float32 (D, H, W): a random canvas where ``foreground``, its mean and a shift elsewhere.

    Args:
        foreground: bool (D, H, W).
        canvas: the range to draw from.
        generator: draws each value; its device is used.
    """
    shape, device = foreground.shape, foreground.device
    values = torch.rand(shape, generator=generator, device=device).mul_(canvas.high - canvas.low).add_(canvas.low)
    scattered = torch.rand(shape, generator=generator, device=device) < canvas.scattered
    values = torch.where(scattered, torch.rand(shape, generator=generator, device=device), values)
    background = float((values.mean() + canvas.shift).clamp(0, 1))
    return torch.where(foreground, values, background)
