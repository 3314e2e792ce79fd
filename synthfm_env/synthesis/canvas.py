"""The volume while it is being drawn: mean intensity, texture strength and labels, and how a shape gets into them."""

import math
import operator
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from synthfm_env.synthesis.fields import cubic_matrix, expand, set_where, slabs, spline_matrix
from synthfm_env.synthesis.shapes import Array, Shape, Tube

Box = tuple[slice, slice, slice]
_MOST_SAMPLES = 5000


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
        self._displacement = self._draw_displacement(generator)

    def _draw_displacement(self, generator: torch.Generator) -> Tensor:
        coarse = [max(1, min(5, round(4 * e / self.extent.max()))) for e in self.extent]
        fine = [min(n, 6 * c) for n, c in zip(self.shape, coarse, strict=True)]
        grid = torch.randn([3, *(c + 3 for c in coarse)], generator=generator, device=self.device)
        mz, my, mx = (spline_matrix(n, c, str(self.device)) for n, c in zip(fine, coarse, strict=True))
        field = torch.stack([expand(g, mz, my, mx) for g in grid])
        if self.shape[0] == 1:
            field[0] = 0
        return field.clamp_(-1.2, 1.2).mul_(self.warp).unsqueeze(0)

    def _displaced(self, unit: Tensor) -> Tensor:
        """Return the displacement, in pixels, at points (..., 3) given as (x, y, z) from -1 to 1 across the volume."""
        found = F.grid_sample(self._displacement, unit.view(1, 1, 1, -1, 3), align_corners=False, padding_mode="border")
        return found.view(3, -1).T.view(unit.shape)

    def shift(self, at: Array) -> Array:
        """Return the displacement, in pixels, at each of the points ``at`` (m, 3), pixels of the volume."""
        unit = torch.as_tensor((at / self.extent * 2 - 1)[:, ::-1].astype(np.float32), device=self.device)
        return np.asarray(self._displaced(unit).cpu().double().numpy())

    def points(self, box: Box, counts: Sequence[int], centre: Array, warped: bool) -> Tensor:
        """Return sample points (nz, ny, nx, 3) of a box, in pixels relative to ``centre``, displaced where asked."""
        lines = [
            s.start + 0.5 + np.arange(n) * ((s.stop - s.start - 1) / max(1, n - 1))
            for s, n in zip(box, counts, strict=True)
        ]
        lines[0] *= self.dz
        points = self._grid([line - c for line, c in zip(lines, centre, strict=True)], (0, 1, 2))
        if not warped:
            return points
        unit = self._grid([line * (2 / e) - 1 for line, e in zip(lines, self.extent, strict=True)], (2, 1, 0))
        return points.add_(self._displaced(unit))

    def _grid(self, lines: Sequence[Array], order: tuple[int, int, int]) -> Tensor:
        """Return the points (nz, ny, nx, 3) of a grid; ``order`` says where z, y and x go."""
        z, y, x = lines
        grid = np.empty((len(z), len(y), len(x), 3), np.float32)
        grid[0, :, :, order[1]] = y[:, None]
        grid[0, :, :, order[2]] = x
        grid[1:] = grid[0]
        grid[..., order[0]] = z[:, None, None]
        return torch.as_tensor(grid, device=self.device)

    def bent(self, tube: Tube, centre: Array) -> Tube:
        """Return the tube as the displacement leaves it: its path is moved, which spares moving every sample."""
        return Tube(tube.path - self.shift(tube.path + centre), tube.radii)

    def evaluate(self, shape: Shape, centre: Array) -> tuple[Box, Tensor] | None:
        """Return the box of voxels that the shape may touch and f on it, or None where it is out of sight."""
        tube = isinstance(shape, Tube)
        warped = not tube and bool(shape.reach.max() > 3 * self.warp)
        if not (warped or tube):  # a small thing is moved as a whole
            centre = centre - self.shift(centre[None])[0]
        middle = centre + shape.offset if isinstance(shape, Tube) else centre
        reach = shape.reach + (1.2 * self.warp if warped else 0) + 2
        step = np.array([self.dz, 1.0, 1.0])
        low = np.maximum(np.floor((middle - reach) / step), 0).astype(int)
        high = np.minimum(np.ceil((middle + reach) / step) + 1, self.shape).astype(int)
        if (high - low < 1).any():
            return None
        box = (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))
        return box, self.sampled(shape, box, centre, warped)

    def sampled(self, shape: Shape, box: Box, centre: Array, warped: bool) -> Tensor:
        """Return f on a box, evaluated on as coarse a grid as the shape bears and expanded by cubic interpolation."""
        lengths = [s.stop - s.start for s in box]
        cell = max(1.0, shape.finest / 3)
        while True:
            counts = [
                min(n, max(4, math.ceil(n * step / cell) + 1))
                for n, step in zip(lengths, (self.dz, 1.0, 1.0), strict=True)
            ]
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
        label: int | None = None,
    ) -> None:
        """Blend intensity and texture in by the soft occupancy clamp(f / width + 1/2); set the label where f > 0."""
        level = torch.tensor(mean, dtype=torch.float32, device=self.device)
        strength = torch.tensor(texture, dtype=torch.float32, device=self.device)
        means, textures = self.mean[box], self.texture[box]
        for rows in slabs(f.shape):
            occupancy = (f[rows] * (1 / width)).add_(0.5).clamp_(0, 1)
            if opacity < 1:
                occupancy.mul_(opacity)
            means[rows].lerp_(level, occupancy)
            textures[rows].lerp_(strength, occupancy)
        if label is not None:
            set_where(self.label[box], label, operator.gt, f, 0)
