"""The boundary-aware module: SynthMorph label maps in 3D, with thin boundaries eroded between neighbours.

Source of the method: SynthMorph (Hoffmann et al. 2021), label = argmax of smooth noise images; SynthFM
section 3.1.2, 10 to 15 clusters, a random subset eroded for a random number of steps.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from synthfm_env.synthesis.fields import cells_for, spline_matrix

_SLAB = 1 << 17


def cluster_map(
    shape: Sequence[int], count: int, size: float, rough: float, dz: float, generator: torch.Generator
) -> Tensor:
    """Return int32 (D, H, W) labels 0..count-1: the argmax of ``count`` smooth noise fields.

    Args:
        shape: (D, H, W).
        count: number of clusters, at most 16.
        size: feature size in pixels.
        rough: weight of a second octave at half the size; wrinkles the boundaries.
        dz: thickness of a slice in pixels.
        generator: source of randomness; its device is used.
    """
    device = str(generator.device)
    cells = cells_for(shape, size / 2, dz)
    grid = torch.randn([count, *(c + 3 for c in cells)], generator=generator, device=device)
    smooth = F.avg_pool3d(F.pad(grid[None], (1, 1, 1, 1, 1, 1), mode="replicate"), 3, stride=1)[0] * 27**0.5
    # The index of the field is packed into the low bits of the float, which needs positive values of one exponent.
    grid = (smooth + rough * grid).mul_(0.5).clamp_(-7, 7).add_(24)
    mz, my, mx = (spline_matrix(n, c, device) for n, c in zip(shape, cells, strict=True))
    planes = (my @ (grid @ mx.T)).flatten(2)
    out = torch.empty((shape[0], shape[1] * shape[2]), dtype=torch.int32, device=device)
    rows = max(1, _SLAB // (shape[1] * shape[2]))
    for start in range(0, shape[0], rows):
        part = mz[start : start + rows]
        best = torch.zeros((part.shape[0], out.shape[1]), dtype=torch.int32, device=device)
        value = torch.empty((part.shape[0], out.shape[1]), device=device)
        for k in range(count):
            torch.mm(part, planes[k], out=value)
            packed = value.view(torch.int32).bitwise_and_(-16).bitwise_or_(k)
            torch.maximum(best, packed, out=best)
        out[start : start + rows] = best.bitwise_and_(15)
    return out.view(*shape)


def eroded(clusters: Tensor, steps: NDArray[np.int64], across_slices: bool) -> Tensor:
    """Return uint8 (D, H, W), 1 where cluster k was taken away by ``steps[k]`` erosions with the 6-neighbourhood."""
    state = clusters.to(torch.uint8)
    gone = torch.zeros_like(state)
    for step in range(int(steps.max(initial=0))):
        edge = torch.zeros_like(gone)
        for axis in range(3):
            if state.shape[axis] == 1 or (axis == 0 and not (across_slices and step == 0)):
                continue
            a, b = state.narrow(axis, 0, state.shape[axis] - 1), state.narrow(axis, 1, state.shape[axis] - 1)
            differs = (a != b).view(torch.uint8)
            edge.narrow(axis, 0, state.shape[axis] - 1).bitwise_or_(differs)
            edge.narrow(axis, 1, state.shape[axis] - 1).bitwise_or_(differs)
        active = torch.zeros(256, dtype=torch.uint8)
        active[: len(steps)] = torch.as_tensor((steps > step).astype(np.uint8))
        edge.bitwise_and_(active.to(state.device)[state.int()])
        gone.bitwise_or_(edge)
        state.masked_fill_(edge.view(torch.bool), 255)
    return gone
