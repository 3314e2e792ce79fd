"""Computes smooth random fields and fast separable resampling, which all other drawing uses.

A field is kept as a small grid of coefficients and expanded to voxels by three matrix products (a separable
cubic B-spline, or Catmull-Rom interpolation for sampled shape functions). That is an order of magnitude
cheaper on a CPU than ``interpolate`` or a convolution, and exact in the same sense.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synthfm_env.synthesis.drawing.fast_normal import normal

# Variance of a cubic B-spline with white-noise coefficients along one axis: the mean sum of its squared weights.
_SPREAD = 151 / 315
_SLAB = 1 << 17  # voxels in a slab: its values stay in a core's cache
_FINE = 32  # control points of an axis from which on only weights that are not zero are multiplied


@lru_cache(maxsize=4096)
def spline_matrix(length: int, cells: int, device: str) -> Tensor:
    """Return the (length, cells + 3) matrix of uniform cubic B-splines over ``cells`` intervals; rows sum to 1."""
    return torch.from_numpy(_spline_rows((np.arange(length) + 0.5) * cells / length, cells)).to(device)


@lru_cache(maxsize=4096)
def nesting_matrix(fine: int, cells: int, device: str) -> Tensor | None:
    """Return the (fine + 3, cells + 3) matrix from a coarse spline's control points to those of a finer one.

    The finer control points are the coarse spline's values at their places. The resulting spline is smoother than the
    coarse one, so the values are scaled up to keep the variance of noise. None if both have the same intervals.
    """
    if fine == cells:
        return None
    gain = (1 + (cells / fine) ** 2) ** 0.25
    return torch.from_numpy(_spline_rows((np.arange(fine + 3) - 1) * cells / fine, cells)).mul_(gain).to(device)


def _spline_rows(t: NDArray[np.float64], cells: int) -> NDArray[np.float32]:
    """Return the weights of cubic B-splines, (len(t), cells + 3), at places ``t`` in cells."""
    k = np.clip(t.astype(int), 0, cells - 1)
    u = t - k
    weights = ((1 - u) ** 3, 3 * u**3 - 6 * u**2 + 4, -3 * u**3 + 3 * u**2 + 3 * u + 1, u**3)
    matrix = np.zeros((len(t), cells + 3), np.float32)
    for i, w in enumerate(weights):
        matrix[np.arange(len(t)), k + i] = w / 6
    return matrix


@lru_cache(maxsize=16384)
def cubic_matrix(length: int, samples: int, device: str) -> Tensor | None:
    """Return the (length, samples) Catmull-Rom matrix, whose end points coincide; None if there are enough samples."""
    if samples >= length:
        return None
    t = np.linspace(0, samples - 1, length)
    k = np.minimum(t.astype(int), samples - 2)
    u = t - k
    u2, u3 = u * u, u * u * u
    weights = (-u3 + 2 * u2 - u, 3 * u3 - 5 * u2 + 2, -3 * u3 + 4 * u2 + u, u3 - u2)
    padded = np.zeros((length, samples + 2), np.float32)
    flat, first = padded.reshape(-1), np.arange(length) * (samples + 2) + k
    for i, w in enumerate(weights):
        flat[first + i] = w / 2
    # Extrapolate linearly beyond the ends: s[-1] = 2 s[0] - s[1].
    padded[:, 1] += 2 * padded[:, 0]
    padded[:, 2] -= padded[:, 0]
    padded[:, -2] += 2 * padded[:, -1]
    padded[:, -3] -= padded[:, -1]
    return torch.from_numpy(padded[:, 1:-1].copy()).to(device)


def expand(grid: Tensor, mz: Tensor | None, my: Tensor | None, mx: Tensor | None) -> Tensor:
    """Expand a (gz, gy, gx) grid by an (n, g) matrix for each axis, in the cheapest order; None keeps an axis."""
    if mz is not None and mz.shape[0] <= mz.shape[1]:
        grid, mz = _along_z(mz, grid), None
    if mx is not None:
        grid = grid @ mx.T
    if my is not None:
        grid = my @ grid
    return grid if mz is None else _along_z(mz, grid)


def _along_z(matrix: Tensor, grid: Tensor) -> Tensor:
    return (matrix @ grid.flatten(1)).view(matrix.shape[0], *grid.shape[1:])


def expand_planes(grid: Tensor, my: Tensor, mx: Tensor) -> Tensor:
    """Expand (n, gy, gx) to (n, H, W) by spline matrices; of fine ones only the columns that are not zero are used."""
    (height, gy), (width, gx) = my.shape, mx.shape
    if gx < _FINE:
        wide = grid @ mx.T
    else:
        wide = torch.empty((*grid.shape[:2], width), device=grid.device)
        for part in _quarters(width):
            columns = spline_columns(part, width, gx)
            torch.mm(grid.flatten(0, 1)[:, columns], mx[part, columns].T, out=wide.flatten(0, 1)[:, part])
    if gy < _FINE:
        return my @ wide
    out = torch.empty((len(grid), height, width), device=grid.device)
    for part in _quarters(height):
        columns = spline_columns(part, height, gy)
        torch.matmul(my[part, columns], wide[:, columns], out=out[:, part])
    return out


def _quarters(length: int) -> list[slice]:
    cuts = [length * k // 4 for k in range(5)]
    return [slice(a, b) for a, b in pairwise(cuts)]


def above(f: Tensor, limit: float) -> Tensor:
    """Return f > limit; on a CPU by numpy, because torch does not vectorise comparisons."""
    return torch.from_numpy(f.numpy() > limit) if f.device.type == "cpu" else f > limit


def set_where(target: Tensor, value: float, mask: Tensor) -> None:
    """Set ``target`` to ``value`` where ``mask``; on a CPU by numpy, in a quarter of the time."""
    if target.device.type == "cpu":
        np.copyto(target.numpy(), value, where=mask.numpy())
    else:
        target.masked_fill_(mask, value)


def cells_for(
    shape: Sequence[int], size: float, dz: float, stretch: Sequence[float] = (1, 1, 1)
) -> tuple[int, int, int]:
    """Return the number of spline intervals along each axis of a volume.

    Args:
        shape: (D, H, W).
        size: of an interval, in pixels.
        dz: thickness of a slice, in pixels.
        stretch: factor on the size along each axis.
    """
    z, y, x = (max(1, round(n / (size * s))) for n, s in zip((shape[0] * dz, *shape[1:]), stretch, strict=True))
    return z, y, x


def fractal_field(
    shape: Sequence[int],
    sizes: Sequence[float],
    weights: Sequence[float],
    dz: float,
    generator: torch.Generator,
    stretch: Sequence[float] = (1, 1, 1),
) -> Tensor:
    """Return a (D, H, W) sum of spline noise at several feature sizes (pixels), of about unit variance.

    Args:
        shape: (D, H, W).
        sizes: of the features of each octave, in pixels.
        weights: of each octave.
        dz: thickness of a slice, in pixels.
        generator: draws the coefficients; its device is used.
        stretch: factor on the sizes along each axis.
    """
    # Coefficients of each octave.
    device = str(generator.device)
    norm = math.sqrt(sum(w * w for w in weights)) or 1.0
    flat = shape[0] == 1
    octaves: list[tuple[tuple[int, int, int], Tensor]] = []
    for size, weight in zip(sizes, weights, strict=True):
        cells = cells_for(shape, size, dz, stretch)
        gain = weight / norm / _SPREAD ** (1.0 if flat else 1.5)
        grid = normal([c + 3 for c in cells], generator).mul_(gain)
        octaves.append((cells, grid[1:2] if flat else grid))
    # Expand the octaves along y and x, then along z slab by slab and summed, so that each voxel is written once.
    products: list[tuple[Tensor | None, Tensor]] = []
    for cells, grid in _nested(octaves):
        mz, my, mx = (spline_matrix(n, c, device) for n, c in zip(shape, cells, strict=True))
        products.append((None if flat else mz, expand_planes(grid, my, mx).flatten(1)))
    out = torch.empty((shape[0], shape[1] * shape[2]), device=device)
    for rows in slabs(shape):
        for number, (along, planes) in enumerate(products):
            if along is None:
                part, columns = torch.ones((1, 1), device=device), slice(None)
            else:
                columns = spline_columns(rows, *along.shape)
                part = along[rows, columns]
            if number:
                out[rows].addmm_(part, planes[columns])
            else:
                torch.mm(part, planes[columns], out=out[rows])
    return out.view(*shape)


def _nested(octaves: list[tuple[tuple[int, int, int], Tensor]]) -> list[tuple[tuple[int, int, int], Tensor]]:
    """Add each octave to the control points of one at most half its size, if any, so that fewer are expanded."""
    octaves = sorted(octaves, key=lambda octave: octave[1].numel())
    left = []
    for number, (cells, grid) in enumerate(octaves):
        for finer, other in octaves[number + 1 :]:
            if all(f == c or f >= 2 * c for f, c in zip(finer, cells, strict=True)):
                matrices = [nesting_matrix(f, c, str(grid.device)) for f, c in zip(finer, cells, strict=True)]
                other.add_(expand(grid, None if len(grid) == 1 else matrices[0], *matrices[1:]))
                break
        else:
            left.append((cells, grid))
    return left


def slabs(shape: Sequence[int]) -> list[slice]:
    """Return slices that cut a volume along z into slabs whose values stay in a core's cache."""
    rows = max(1, _SLAB // (shape[1] * shape[2]))
    return [slice(start, min(start + rows, shape[0])) for start in range(0, shape[0], rows)]


def spline_columns(rows: slice, length: int, width: int) -> slice:
    """Return the columns of ``spline_matrix`` that are not zero in these rows: a spline is local."""
    cells = width - 3
    first, last = (int((i + 0.5) * cells / length) for i in (rows.start, rows.stop - 1))
    return slice(max(0, first - 1), min(width, last + 5))


@lru_cache(maxsize=512)
def _gaussian_kernel(sigma: float) -> tuple[float, ...]:
    radius = max(1, math.ceil(2.5 * sigma))
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return tuple((taps / taps.sum()).tolist())


def gaussian_blur(x: Tensor, sigma: Sequence[float], wrap: bool = False) -> Tensor:
    """Blur (D, H, W) with a Gaussian of ``sigma`` voxels along each axis, by sums of shifted arrays.

    Edges are replicated; with ``wrap`` they are periodic, so that noise is as strong there as elsewhere. An axis with a
    sigma below 0.2 is not blurred. Work goes slab by slab, because a padded copy of the volume would cost most of the
    time.
    """
    axes = [axis for axis, s in enumerate(sigma) if s >= 0.2 and x.shape[axis] > 1]
    if not axes:
        return x
    out = torch.empty(x.shape, device=x.device)
    for rows in slabs(x.shape):
        part = x if axes[0] == 0 else x[rows]
        for axis in axes:
            taps = _gaussian_kernel(round(float(sigma[axis]), 2))
            padded = _padded(part, axis, len(taps) // 2, wrap, rows if axis == 0 else None)
            part = _weighted(padded, axis, taps, out[rows] if axis == axes[-1] else None)
    return out


def _padded(x: Tensor, axis: int, radius: int, wrap: bool, rows: slice | None) -> Tensor:
    """Return ``rows`` of an axis, or the whole axis, extended by ``radius`` at both ends."""
    n = x.shape[axis]
    if rows is not None or (wrap and radius > n):
        start, stop = (rows.start, rows.stop) if rows else (0, n)
        if start >= radius and stop + radius <= n:
            return x.narrow(axis, start - radius, stop - start + 2 * radius)
        at = torch.arange(start - radius, stop + radius, device=x.device)
        return x.index_select(axis, at.remainder_(n) if wrap else at.clamp_(0, n - 1))
    if wrap:
        return torch.cat([x.narrow(axis, n - radius, radius), x, x.narrow(axis, 0, radius)], axis)
    reps = [radius if i == axis else -1 for i in range(3)]
    return torch.cat([x.narrow(axis, 0, 1).expand(reps), x, x.narrow(axis, n - 1, 1).expand(reps)], axis)


def _weighted(padded: Tensor, axis: int, taps: Sequence[float], out: Tensor | None) -> Tensor:
    """Convolve along an axis with a symmetric kernel."""
    radius = len(taps) // 2
    n = padded.shape[axis] - 2 * radius
    out = torch.mul(padded.narrow(axis, radius, n), taps[radius], out=out)
    for i in range(radius):
        out.add_(padded.narrow(axis, i, n), alpha=taps[i])
        out.add_(padded.narrow(axis, 2 * radius - i, n), alpha=taps[i])
    return out
