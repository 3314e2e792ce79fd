"""Smooth random fields and fast separable resampling, the arithmetic that everything else here stands on.

A field is kept as a small grid of coefficients and expanded to voxels by three matrix products (a separable
cubic B-spline, or Catmull-Rom interpolation for sampled shape functions). That is an order of magnitude
cheaper on a CPU than ``interpolate`` or a convolution, and exact in the same sense.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

# The mean of the sum of squared weights of a cubic B-spline: what is left of white noise's variance along an axis.
_SPREAD = 151 / 315
_SLAB = 1 << 17
_FINE = 32


@lru_cache(maxsize=4096)
def spline_matrix(length: int, cells: int, device: str) -> Tensor:
    """Return the (length, cells + 3) matrix of uniform cubic B-splines over ``cells`` intervals; rows sum to 1."""
    t = (np.arange(length) + 0.5) * cells / length
    k = np.minimum(t.astype(int), cells - 1)
    u = t - k
    weights = ((1 - u) ** 3, 3 * u**3 - 6 * u**2 + 4, -3 * u**3 + 3 * u**2 + 3 * u + 1, u**3)
    matrix = np.zeros((length, cells + 3), np.float32)
    for i, w in enumerate(weights):
        matrix[np.arange(length), k + i] = w / 6
    return torch.from_numpy(matrix).to(device)


@lru_cache(maxsize=16384)
def cubic_matrix(length: int, samples: int, device: str) -> Tensor | None:
    """Return the (length, samples) Catmull-Rom matrix; both ends coincide. None where nothing is to be done."""
    if samples >= length:
        return None
    t = np.linspace(0, samples - 1, length)
    k = np.minimum(t.astype(int), samples - 2)
    u = t - k
    weights = (
        (-(u**3) + 2 * u**2 - u) / 2,
        (3 * u**3 - 5 * u**2 + 2) / 2,
        (-3 * u**3 + 4 * u**2 + u) / 2,
        (u**3 - u**2) / 2,
    )
    padded = np.zeros((length, samples + 2))
    for i, w in enumerate(weights):
        padded[np.arange(length), k + i] += w
    matrix = padded[:, 1:-1].copy()
    # Beyond the ends the samples go on linearly: s[-1] = 2 s[0] - s[1].
    matrix[:, 0] += 2 * padded[:, 0]
    matrix[:, 1] -= padded[:, 0]
    matrix[:, -1] += 2 * padded[:, -1]
    matrix[:, -2] -= padded[:, -1]
    return torch.from_numpy(matrix.astype(np.float32)).to(device)


def expand(grid: Tensor, mz: Tensor | None, my: Tensor | None, mx: Tensor | None) -> Tensor:
    """Expand a (gz, gy, gx) grid with one (n, g) matrix an axis, cheapest axis order first; None leaves an axis."""
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
    """Expand (n, gy, gx) to (n, H, W) by spline matrices, of fine ones only what is not zero."""
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


def set_where(target: Tensor, value: float, compare: Callable[[Any, float], Any], f: Tensor, limit: float) -> None:
    """Set ``target`` to ``value`` where ``compare(f, limit)``.

    On a CPU numpy does it, in a quarter of the time: torch's comparisons and masked fills are not vectorised.
    """
    if f.device.type == "cpu":
        np.copyto(target.numpy(), value, where=compare(f.numpy(), limit))
    else:
        target.masked_fill_(compare(f, limit), value)


def cells_for(
    shape: Sequence[int], size: float, dz: float, stretch: Sequence[float] = (1, 1, 1)
) -> tuple[int, int, int]:
    """Return how many spline intervals of ``size`` pixels fill (D, H, W), a slice being ``dz`` pixels thick.

    ``stretch`` multiplies the size along each axis.
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

    The last product, along z, goes slab by slab over all octaves, so that memory is touched once.
    """
    device = str(generator.device)
    norm = math.sqrt(sum(w * w for w in weights)) or 1.0
    octaves: list[tuple[Tensor | None, Tensor]] = []
    for size, weight in zip(sizes, weights, strict=True):
        cells = cells_for(shape, size, dz, stretch)
        gain = weight / norm / _SPREAD ** (1.5 if shape[0] > 1 else 1.0)
        grid = torch.randn([c + 3 for c in cells], generator=generator, device=device) * gain
        mz, my, mx = (spline_matrix(n, c, device) for n, c in zip(shape, cells, strict=True))
        if shape[0] == 1:
            octaves.append((None, (my @ (grid[1] @ mx.T)).view(1, -1)))
        else:
            octaves.append((mz, expand_planes(grid, my, mx).flatten(1)))
    out = torch.empty((shape[0], shape[1] * shape[2]), device=device)
    for rows in slabs(shape):
        part = out[rows].zero_()
        for along, planes in octaves:
            if along is None:
                part += planes
            else:
                columns = spline_columns(rows, *along.shape)
                part.addmm_(along[rows, columns], planes[columns])
    return out.view(*shape)


def slabs(shape: Sequence[int]) -> list[slice]:
    """Return the slices that cut a volume along z into slabs that stay in a core's cache."""
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
    """Blur (D, H, W) with a Gaussian of ``sigma`` voxels an axis, by shifted adds.

    Edges are replicated; with ``wrap`` the volume goes on at its other side, which noise needs to be as strong at the
    edges as elsewhere. A sigma under 0.2 is nothing.

    All axes are done slab by slab: that needs no padded copy of the volume, and fresh memory is what costs most.
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
    """Return ``rows`` of an axis, or all of it, and ``radius`` more at both ends."""
    n = x.shape[axis]
    if rows is not None or (wrap and radius > n):
        start, stop = (rows.start, rows.stop) if rows else (0, n)
        at = torch.arange(start - radius, stop + radius, device=x.device)
        return x.index_select(axis, at.remainder_(n) if wrap else at.clamp_(0, n - 1))
    if wrap:
        return torch.cat([x.narrow(axis, n - radius, radius), x, x.narrow(axis, 0, radius)], axis)
    reps = [radius if i == axis else -1 for i in range(3)]
    return torch.cat([x.narrow(axis, 0, 1).expand(reps), x, x.narrow(axis, n - 1, 1).expand(reps)], axis)


def _weighted(padded: Tensor, axis: int, taps: Sequence[float], out: Tensor | None) -> Tensor:
    radius = len(taps) // 2
    n = padded.shape[axis] - 2 * radius
    out = torch.mul(padded.narrow(axis, radius, n), taps[radius], out=out)
    for i in range(radius):
        out.add_(padded.narrow(axis, i, n), alpha=taps[i])
        out.add_(padded.narrow(axis, 2 * radius - i, n), alpha=taps[i])
    return out
