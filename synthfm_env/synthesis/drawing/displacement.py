"""Computes the smooth displacement of a volume: a cubic B-spline on a few control points."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from synthfm_env.synthesis.anatomy.shapes import Array
from synthfm_env.synthesis.drawing.random_fields import spline_matrix

_MOST_CELLS = 5  # intervals between control points along an axis
_STEPS = 1024  # tabulated positions in an interval: a quarter of a pixel in images of 1024 pixels
_COARSE = 3  # samples in an interval from which bounds are taken


class Displacement:
    """A field of vectors (z, y, x), in pixels, over the volume.

    Args:
        extent: of the volume along (z, y, x), in pixels.
        amplitude: standard deviation of the control points, in pixels; the field's is a third of it.
        generator: draws them; its device is the field's.
        flat: whether there is one slice only; nothing is displaced along z then.
    """

    def __init__(self, extent: Array, amplitude: float, generator: torch.Generator, *, flat: bool) -> None:
        self.amplitude = amplitude
        cells = [max(1, min(_MOST_CELLS, round(4 * e / extent.max()))) for e in extent]
        self._device = generator.device
        self._control = torch.randn([3, *(c + 3 for c in cells)], generator=generator, device=self._device)
        self._control.mul_(amplitude)
        if flat:
            self._control[0] = 0
        self._tables = [spline_matrix(_STEPS * c, c, "cpu").numpy() for c in cells]
        self._scale = [_STEPS * c / float(e) for c, e in zip(cells, extent, strict=True)]
        self._coarse_scale = [_COARSE * c / float(e) for c, e in zip(cells, extent, strict=True)]
        middles = [(np.arange(_COARSE * c) + 0.5) / s for c, s in zip(cells, self._coarse_scale, strict=True)]
        self._by_z = self._control.cpu().numpy().swapaxes(0, 1).reshape(cells[0] + 3, -1)
        self._coarse = self.across(middles).cpu().numpy()
        self._largest = np.abs(self._coarse).max((1, 2, 3))

    def _weights(self, positions: Sequence[Array]) -> list[Array]:
        """Return the spline weights (n, control points) of each axis at its positions, clamped to the volume."""
        return [
            table.take((at * scale).astype(np.int64), 0, mode="clip")
            for table, scale, at in zip(self._tables, self._scale, positions, strict=True)
        ]

    def across(self, lines: Sequence[Array]) -> Tensor:
        """Return the displacement (3, nz, ny, nx) at the grid of positions along z, y and x."""
        mz, my, mx = (torch.from_numpy(m).to(self._device) for m in self._weights(lines))
        planes = my @ (self._control @ mx.T)
        return (mz @ planes.flatten(2)).view(3, len(mz), len(my), len(mx))

    def at(self, points: Array) -> Array:
        """Return the displacement at each of the points (m, 3)."""
        wz, wy, wx = self._weights(list(points.T))
        planes = (wz @ self._by_z).reshape(len(points), *self._control.shape[:1], *self._control.shape[2:])
        lines = (planes * wx[:, None, None]).sum(3)
        return np.asarray((lines * wy[:, None]).sum(2), np.float64)

    def bounds(self, low: Array, high: Array) -> tuple[Array, Array]:
        """Return the least and the largest displacement along each axis of shapes between two corners."""
        where: list[slice] = [slice(None)]
        for a, b, scale, n, most in zip(
            low.tolist(), high.tolist(), self._coarse_scale, self._coarse.shape[1:], self._largest.tolist(), strict=True
        ):
            # One sample more at both ends, because the field goes on changing between two samples.
            first, last = int((a - most) * scale - 1), int((b + most) * scale + 1)
            first = min(max(first, 0), n - 1)
            where.append(slice(first, max(first, min(last, n - 1)) + 1))
        part = self._coarse[tuple(where)].reshape(3, -1)
        return part.min(1), part.max(1)
