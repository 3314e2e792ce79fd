"""Keeps a volume while it is drawn: mean intensity, texture strength and labels; paints shapes on them."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from synthfm_env.synthesis.anatomy.shapes import Array, Shape, Tube
from synthfm_env.synthesis.drawing.displacement import Displacement
from synthfm_env.synthesis.drawing.random_fields import above, cubic_matrix, expand, set_where, slabs

Box = tuple[slice, slice, slice]
_MOST_SAMPLES = 5000  # points at which a shape is evaluated


class Canvas:
    """Mean intensity, texture amplitude (float32) and raw labels (int16), each (D, H, W).

    Args:
        shape: (D, H, W).
        dz: thickness of a slice in pixels.
        warp: amplitude in pixels of the smooth displacement that every shape is seen through.
        generator: draws the displacement; its device is the canvas's.
    """

    def __init__(self, shape: Sequence[int], dz: float, warp: float, generator: torch.Generator) -> None:
        self.shape = (shape[0], shape[1], shape[2])
        self.dz = dz
        self.generator = generator
        self.device = generator.device
        self.mean = torch.zeros(self.shape, device=self.device)
        self.texture = torch.zeros(self.shape, device=self.device)
        self.label = torch.zeros(self.shape, dtype=torch.int16, device=self.device)
        self.extent = np.array([shape[0] * dz, shape[1], shape[2]], float)
        self.warp = warp
        self._displacement = Displacement(self.extent, warp, generator, flat=shape[0] == 1)

    def points(self, box: Box, counts: Sequence[int], centre: Array, warped: bool) -> Tensor:
        """Return sample points (3, nz, ny, nx) of a box, in pixels relative to ``centre``, displaced if ``warped``."""
        lines = [
            s.start + 0.5 + np.arange(n) * ((s.stop - s.start - 1) / max(1, n - 1))
            for s, n in zip(box, counts, strict=True)
        ]
        lines[0] *= self.dz
        z, y, x = (
            torch.as_tensor((line - c).astype(np.float32), device=self.device)
            for line, c in zip(lines, centre.tolist(), strict=True)
        )
        points = self._displacement.across(lines) if warped else torch.zeros((3, *counts), device=self.device)
        points[0].add_(z.view(-1, 1, 1))
        points[1].add_(y.view(-1, 1))
        points[2].add_(x)
        return points

    def bent(self, tube: Tube, centre: Array) -> Tube:
        """Return the tube with its path displaced, so that its samples need not be."""
        return Tube(tube.path - self._displacement.at(tube.path + centre), tube.radii)

    def evaluate(self, shape: Shape, centre: Array, margin: float) -> tuple[Box, Tensor] | None:
        """Return the box of voxels that a shape may touch and f on it, or None if the shape is outside the image.

        Args:
            shape: in the array's axes.
            centre: (z, y, x) in pixels.
            margin: pixels beyond the shape's border that may be touched.
        """
        # Displacement: of every sample of a large shape, of the centre of a small one. Tubes come displaced.
        lowest, highest = shape.reach
        tube = isinstance(shape, Tube)
        warped = not tube and bool((highest - lowest).max() > 6 * self.warp)
        if not (warped or tube):
            centre = centre - self._displacement.at(centre[None])[0]
        low, high = centre + lowest - margin, centre + highest + margin
        if warped:
            least, most = self._displacement.bounds(low, high)
            low, high = low - most, high - least
        # Voxels of the box inside the image.
        box = []
        for a, b, step, n in zip(low.tolist(), high.tolist(), (self.dz, 1.0, 1.0), self.shape, strict=True):
            start, stop = max(math.floor(a / step), 0), min(math.ceil(b / step) + 1, n)
            if stop <= start:
                return None
            box.append(slice(start, stop))
        whole = (box[0], box[1], box[2])
        return whole, self.sampled(shape, whole, centre, warped)

    def sampled(self, shape: Shape, box: Box, centre: Array, warped: bool) -> Tensor:
        """Return f on a box, evaluated on a coarse grid that resolves the shape, and interpolated cubically."""
        lengths = [s.stop - s.start for s in box]
        sizes = (lengths[0] * self.dz, lengths[1], lengths[2])
        cell = max(1.0, shape.finest / 3)
        while True:
            counts = [min(n, max(4, math.ceil(size / cell) + 1)) for n, size in zip(lengths, sizes, strict=True)]
            if math.prod(counts) <= _MOST_SAMPLES or cell > 16:
                break
            cell *= 1.25
        f = shape(self.points(box, counts, centre, warped))
        mz, my, mx = (cubic_matrix(n, c, str(self.device)) for n, c in zip(lengths, counts, strict=True))
        return expand(f, mz, my, mx)

    def stamp(
        self,
        box: Box,
        f: Tensor,
        *,
        mean: float,
        texture: float,
        width: float = 1.0,
        opacity: float = 1.0,
        inset: float = 0.0,
        label: int | None = None,
    ) -> None:
        """Blend intensity and texture in by the soft occupancy clamp(g / width + 1/2); set the label where g > 0.

        g is f, ``inset`` pixels further inside.
        """
        level = torch.tensor(mean, dtype=torch.float32, device=self.device)
        strength = torch.tensor(texture, dtype=torch.float32, device=self.device)
        half = torch.tensor(0.5 - inset / width, dtype=torch.float32, device=self.device)
        means, textures = self.mean[box], self.texture[box]
        for rows in slabs(f.shape):
            occupancy = torch.add(half, f[rows], alpha=1 / width).clamp_(0, 1)
            if opacity < 1:
                occupancy.mul_(opacity)
            means[rows].lerp_(level, occupancy)
            textures[rows].lerp_(strength, occupancy)
        if label is not None:
            set_where(self.label[box], label, above(f, inset))
