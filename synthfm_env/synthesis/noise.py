"""The noise library: each model a small function with its formula, parameters and source."""

import torch
from torch import Tensor

from synthfm_env.synthesis.fields import fractal_field, gaussian_blur


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator, device=like.device)


def gaussian(image: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    """Additive Gaussian: y = x + sigma n, n ~ N(0, 1). Variance sigma^2, whatever x is."""
    return image + sigma * _normal(image, generator)


def poisson(image: Tensor, photons: float, generator: torch.Generator) -> Tensor:
    """Signal-dependent Poisson: y = k / photons, k ~ Poisson(photons x). Mean x, variance x / photons.

    Above a rate of 10 the normal approximation N(rate, rate) is used, twelve times as fast.
    """
    if photons < 10:
        return torch.poisson(image.clamp(min=0) * photons, generator=generator) / photons
    return image + (image.clamp(min=0) / photons).sqrt_() * _normal(image, generator)


def perlin(
    image: Tensor, strength: float, size: float, generator: torch.Generator, dz: float = 1.0
) -> Tensor:
    """Add fractal lattice noise of three octaves, of standard deviation about ``strength``."""
    sizes = [size, size / 2, size / 4]
    return image + strength * fractal_field(
        image.shape, [max(2.0, s) for s in sizes], [1.0, 0.5, 0.25], dz, generator
    )


def rician(image: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    """Magnitude of a complex signal: y = |x + sigma (n1 + i n2)|; E[y^2] = x^2 + 2 sigma^2 (Gudbjartsson 1995)."""
    real = image + sigma * _normal(image, generator)
    return torch.hypot(real, sigma * _normal(image, generator))


def speckle(
    amplitude: Tensor, generator: torch.Generator, size: tuple[float, float, float], share: float
) -> Tensor:
    """Fully developed speckle: amplitude times a Rayleigh variate, correlated over ``size`` voxels (z, y, x).

    y = x ((1 - share) + share r), r = |n1 + i n2| / sqrt(2), with n blurred and scaled to unit variance.
    """
    parts = []
    for _ in range(2):
        n = gaussian_blur(_normal(amplitude, generator), size)
        parts.append(n.div_(n.std()))
    r = torch.hypot(*parts).mul_(0.5**0.5)
    return amplitude * ((1 - share) + share * r)


def log_compress(amplitude: Tensor, decibels: float) -> Tensor:
    """Map amplitudes to [0, 1]: 1 + 20 log10(y) / decibels, cut at both ends."""
    return (1 + 20 / decibels * torch.log10(amplitude.clamp(min=1e-6))).clamp_(0, 1)
