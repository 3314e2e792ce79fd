"""Draws the background of organs: clusters, a body with fat, muscle or skull, and air around it."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from synthfm_env.synthesis.anatomy.placement import Placement
from synthfm_env.synthesis.anatomy.shapes import Array, Rng, Star, log_uniform
from synthfm_env.synthesis.background.clusters import cluster_map, eroded
from synthfm_env.synthesis.components import REGION
from synthfm_env.synthesis.drawing.canvas import Canvas
from synthfm_env.synthesis.drawing.random_fields import above, fractal_field, gaussian_blur, slabs
from synthfm_env.synthesis.imaging.tissue_intensities import TissueIntensities
from synthfm_env.synthesis.recipe import GeneratorRecipe

_FIRST_REGION = 10_000  # raw labels of clusters begin here
_PER_PIXEL = 4  # entries of the look-up table by depth, for each pixel


def draw_clusters(
    canvas: Canvas, intensities: TissueIntensities, recipe: GeneratorRecipe, rng: Rng, fineness: float = 1.0
) -> dict[int, str]:
    """Fill the canvas with clusters and the boundaries eroded between them.

    In a quarter of the volumes all clusters have nearly the same intensity, so that only the boundaries separate them
    (SynthFM 3.1.2).

    Args:
        canvas: to paint on.
        intensities: of the volume's tissues.
        recipe: contains the number of clusters, and the probability that they are structures.
        rng: random generator.
        fineness: divides the clusters' size.

    Returns:
        Kind of structure of each raw label; empty if the clusters are background.
    """
    # Label map: the argmax of smooth noise fields.
    count = int(rng.integers(recipe.cluster_count[0], recipe.cluster_count[1] + 1))
    size = max(6.0, min(canvas.shape[1:]) * log_uniform(rng, 0.1, 0.5) / fineness)
    stretch = np.ones(3)
    if rng.random() < 0.3:  # layers: muscles and fasciae, parallel to the ultrasound probe
        stretch[2 if intensities.style == "US" else int(rng.integers(3))] = rng.uniform(2, 5)
    rough, offsets = rng.uniform(0, 0.6), rng.normal(0, rng.uniform(0, 0.6), count)
    clusters = cluster_map(
        canvas.shape, count, size, rough, canvas.dz, canvas.generator, stretch.tolist(), offsets.tolist()
    )
    # Boundaries: some clusters are eroded by some steps.
    alike = rng.random() < 0.25
    subset = np.ones(count, bool) if alike else rng.random(count) < rng.uniform(0, 0.9)
    unit = max(1.0, min(canvas.shape[1:]) / 192)
    steps = np.where(subset, np.ceil(rng.integers(1, 4, count) * unit), 0).astype(np.int64)
    # Their thickness varies: boundaries of one thickness would look like a honeycomb.
    strength = fractal_field(canvas.shape, [0.6 * size, 0.2 * size], [1.0, 0.6], canvas.dz, canvas.generator)
    strength.mul_(rng.uniform(0.2, 0.6)).add_(0.8)
    eroded_voxels = eroded(clusters, steps, across_slices=canvas.dz < 2.5, strength=strength)
    # Intensity and texture of each cluster and of each boundary.
    shared = intensities.soft(rng)
    means = [intensities.near(rng, shared) if alike else intensities.any(rng) for _ in range(count)]
    if alike:
        lines = [intensities.soft(rng, shared, least=0.1)] * count
    else:
        lines = [intensities.any(rng) for _ in range(count)] if rng.random() < 0.5 else [intensities.any(rng)] * count
    grain = [intensities.amplitude(rng) for _ in range(2 * count)]
    index = clusters.add_(eroded_voxels, alpha=count)

    # Paint. A complex number holds intensity and texture, so that one look-up gives both.
    tables = torch.complex(
        *(torch.tensor(v, dtype=torch.float32, device=canvas.device) for v in (means + lines, grain))
    )
    sharp = log_uniform(rng, 0.4, 0.9) * unit
    for rows in slabs(canvas.shape):
        values = tables.index_select(0, index[rows].flatten()).view(index[rows].shape)
        mean, texture = torch.view_as_real(values).unbind(-1)
        canvas.mean[rows].copy_(gaussian_blur(mean, (0, sharp, sharp)))  # partial volume
        canvas.texture[rows].copy_(texture)
    if recipe.shapes and rng.random() >= recipe.cluster_targets:
        return {}
    ids = torch.arange(_FIRST_REGION, _FIRST_REGION + 2 * count, dtype=torch.int16, device=canvas.device)
    ids[count:] = 0
    canvas.label.copy_(ids.index_select(0, index.flatten()).view(index.shape))
    return {_FIRST_REGION + k: REGION for k in range(count)}


@dataclass(frozen=True)
class Body:
    """The outline of a body and its layers (skin, fat, muscle or skull).

    Attributes:
        depth: (D, H, W), distance of each voxel below the surface in pixels; negative outside.
        inner: depth at which the layers end and the organs begin.
        start: depth of the first entry of the following tables.
        levels: intensity by depth, ``_PER_PIXEL`` entries for each pixel.
        weights: opacity by depth: 1 in air and layers, 0 below them.
        air_weights: opacity of the air alone.
    """

    depth: Tensor
    inner: float
    start: float
    levels: Array
    weights: Array
    air_weights: Array

    def cover(self, placement: Placement, layers: bool) -> None:
        """Paint the air outside, and with ``layers`` the layers, over the canvas, without a label."""
        canvas = placement.canvas
        weights = self.weights if layers else self.air_weights
        # A complex number holds intensity and opacity, so that one look-up gives both.
        table = torch.as_tensor(self.levels + 1j * weights, dtype=torch.complex64, device=canvas.device)
        for rows in slabs(canvas.shape):
            depth = self.depth[rows]
            index = depth.sub(self.start).mul_(_PER_PIXEL).clamp_(0, len(weights) - 1).int().flatten()
            values = torch.view_as_real(table.index_select(0, index).view(depth.shape))
            level, share = (part.contiguous() for part in values.unbind(-1))
            canvas.mean[rows].lerp_(level, share)
            # Fat and air have nearly no texture.
            canvas.texture[rows].mul_(share.mul_(-0.9).add_(1))
            canvas.label[rows].mul_(above(depth, self.inner if layers else 0.0))


def draw_body(placement: Placement) -> Body:
    """Draw a trunk (long, cut at both ends) or a head (closed) with random layers: skin, fat, then muscle or skull."""
    rng, intensities, canvas = placement.rng, placement.intensities, placement.canvas
    across = placement.span[1:] * rng.uniform(0.36, 0.6, 2)
    closed = rng.random() < 0.3
    along = placement.span[0] * rng.uniform(0.45, 0.7) if closed else 1e4 * placement.size
    count = int(rng.integers(2, 6))
    shape = Star(
        np.array([along, *across]),
        np.eye(3),
        rng.normal(0, 1.5, (3, count)),
        rng.uniform(0, 2 * np.pi, count),
        rng.normal(0, 0.06, count),
    )
    centre = placement.extent * 0.5 + placement.span * np.array([0, *rng.uniform(-0.08, 0.08, 2)])
    # Depth of each voxel below the surface.
    whole = (slice(0, canvas.shape[0]), slice(0, canvas.shape[1]), slice(0, canvas.shape[2]))
    depth = canvas.sampled(shape.turned(placement.frame), whole, placement.frame @ centre, warped=True)
    depth *= float(np.sqrt(across.prod()) / np.prod(shape.axes) ** (1 / 3))
    # Thickness in pixels and intensity of each layer, from the outside.
    layers = []
    if rng.random() < 0.3:
        layers.append((rng.uniform(0.8, 2), intensities.soft(rng)))
    if rng.random() < 0.7:
        layers.append((placement.size * log_uniform(rng, 0.01, 0.12), intensities.fat(rng)))
    if rng.random() < (0.6 if closed else 0.1):
        layers.append((placement.size * rng.uniform(0.012, 0.05), intensities.bone(rng)))
        layers.append((placement.size * rng.uniform(0.005, 0.03), intensities.fluid(rng)))
    elif rng.random() < 0.3:
        layers.append((placement.size * rng.uniform(0.03, 0.1), intensities.soft(rng)))
    return _with_layers(depth, layers, intensities.air, log_uniform(rng, 0.4, 1.5))


def draw_phantom(placement: Placement) -> Body | None:
    """Draw SynthFM's phantom: a disc (a cylinder along the body) on black, or None for black alone."""
    rng, canvas = placement.rng, placement.canvas
    if rng.random() < 0.4:
        return None
    radius = placement.size * rng.uniform(0.35, 0.49)
    shape = Star.ellipsoid(np.array([1e4 * placement.size, radius, radius]), np.eye(3))
    whole = (slice(0, canvas.shape[0]), slice(0, canvas.shape[1]), slice(0, canvas.shape[2]))
    depth = canvas.sampled(shape.turned(placement.frame), whole, placement.frame @ (placement.extent / 2), warped=False)
    depth *= float(radius / np.prod(shape.axes) ** (1 / 3))
    return _with_layers(depth, [], 0.0, 0.7)


def _with_layers(depth: Tensor, layers: list[tuple[float, float]], air: float, blur: float) -> Body:
    """Tabulate intensity and opacity by depth, blurred by ``blur`` pixels."""
    inner = float(sum(thick for thick, _ in layers))
    start = -6.0
    at = np.arange(start, inner + 6.0, 1 / _PER_PIXEL)
    levels, weights = np.full(at.shape, air), (at < inner).astype(float)
    top = 0.0
    for thick, level in layers:
        levels[at >= top] = level
        top += thick
    taps = np.exp(-0.5 * (np.arange(-12, 13) / (_PER_PIXEL * blur)) ** 2)
    taps /= taps.sum()

    def smooth(values: Array) -> Array:
        padded = np.pad(values, 12, mode="edge")
        return np.convolve(padded, taps, mode="valid")

    air_weights = smooth((at < 0).astype(float))
    if not layers:
        levels[:] = air
    return Body(depth, inner, start, smooth(levels), smooth(weights), air_weights)
