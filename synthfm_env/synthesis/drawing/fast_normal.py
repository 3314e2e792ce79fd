"""Draws many normal random numbers in half the time of ``torch.randn``."""

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

_BITS = 16
_PART = 1 << 17  # numbers looked up at a time, so that indices stay in a core's cache


@lru_cache
def _quantiles(device: str) -> Tensor:
    """Return the medians of the standard normal distribution's 2^16 equally likely parts, scaled to variance 1."""
    count = 1 << _BITS
    medians = torch.special.ndtri((torch.arange(count, dtype=torch.float64) + 0.5) / count)
    return (medians / medians.square().mean().sqrt()).float().to(device)


def normal(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Return float32 draws from N(0, 1) by inverting its distribution, at 16 random bits each.

    There are 2^16 different values, none beyond 4.33. A Kolmogorov-Smirnov test needs about 10^10 draws to detect this.
    """
    device, count = generator.device, math.prod(shape)
    bits = torch.empty(math.ceil(count / 4), dtype=torch.int64, device=device)
    halves = bits.random_(-(1 << 63), None, generator=generator).view(torch.int16)
    table, out = _quantiles(str(device)), torch.empty(count, device=device)
    for start in range(0, count, _PART):
        part = out[start : start + _PART]
        index = halves[start : start + len(part)].int().bitwise_and_((1 << _BITS) - 1)
        torch.index_select(table, 0, index, out=part)
    return out.view(*shape)
