"""From mean intensities to an image: what CT, MR, ultrasound and other devices do to them."""

import math

import torch
from torch import Tensor

from synthfm_env.synthesis import noise
from synthfm_env.synthesis.fields import fractal_field, gaussian_blur
from synthfm_env.synthesis.shapes import Rng, log_uniform


def thick_slices(image: Tensor, rng: Rng, ratio: float, sharp: float) -> Tensor:
    """Blur by the point spread: ``sharp`` pixels in the plane, along z what thick slices overlap."""
    across = min(1.0, sharp / ratio) if ratio > 1.5 else sharp
    if ratio > 1.5 and rng.random() < 0.5:
        across = rng.uniform(0.2, 0.6)
    return gaussian_blur(image, (across, sharp, sharp))


def ct(image: Tensor, rng: Rng, generator: torch.Generator, ratio: float, dz: float) -> Tensor:
    """Point spread and correlated noise of a CT, in HU."""
    image = thick_slices(image, rng, ratio, log_uniform(rng, 0.3, 1.1))
    sigma = log_uniform(rng, 2.0, 60.0)
    grain = noise.gaussian(torch.zeros_like(image), 1.0, generator)
    correlated = rng.choice([0.0, rng.uniform(0.4, 1.2)])
    if correlated:
        grain = gaussian_blur(grain, (0.3, correlated, correlated))
        grain *= sigma / float(grain.std())
    else:
        grain *= sigma
    return image.add_(grain).clamp_(-1024, 3071)


def mr(image: Tensor, rng: Rng, generator: torch.Generator, ratio: float, dz: float) -> Tensor:
    """Bias field, gamma, point spread and Rician noise of an MR, about 0 to 1."""
    image = shade(image, rng, generator, dz, 0.35)
    image = thick_slices(image, rng, ratio, log_uniform(rng, 0.3, 1.2))
    return noise.rician(image, log_uniform(rng, 0.006, 0.12), generator)


def ultrasound(image: Tensor, rng: Rng, generator: torch.Generator, ratio: float, dz: float) -> Tensor:
    """Speckle, log compression, specular walls, shadows and the fan of an ultrasound; the beam goes along y."""
    depth = torch.linspace(0, 1, image.shape[1], device=image.device)
    edge = torch.zeros_like(image)
    edge[:, 1:] = (image[:, 1:] - image[:, :-1]).abs()
    walls = rng.uniform(0, 4)
    bright = (image - 0.8).clamp_(0, 0.3) * rng.uniform(0, 0.6)
    shadow = torch.exp(-torch.cumsum(bright, 1) * (128 / image.shape[1]))
    amplitude = image.clamp(min=0).add_(edge, alpha=walls).mul_(shadow)
    amplitude *= torch.exp(-depth * rng.uniform(-0.5, 1.5))[:, None]
    lateral = log_uniform(rng, 0.6, 2.5)
    axial = log_uniform(rng, 0.4, 1.0)
    speckled = noise.speckle(
        amplitude, generator, (min(0.6, lateral / max(dz, 1)), axial, lateral), rng.uniform(0.1, 1)
    )
    image = noise.log_compress(speckled, rng.uniform(25, 60))
    if rng.random() < 0.5:
        image = gaussian_blur(image, (0, rng.uniform(0.3, 1), rng.uniform(0.3, 1.5)))
    return image


def fan(height: int, width: int, rng: Rng) -> Tensor:
    """Return the (H, W) field of view: a sector, a trapezium, or all of the image."""
    kind = rng.choice(["sector", "trapezium", "all"], p=[0.4, 0.25, 0.35])
    y, x = torch.meshgrid(
        torch.linspace(0, 1, height), torch.linspace(-0.5, 0.5, width) * width / height, indexing="ij"
    )
    if kind == "all":
        return torch.ones(height, width)
    if kind == "sector":
        apex, opening = -rng.uniform(-0.03, 0.4), rng.uniform(0.4, 0.75)
        r = torch.sqrt((y - apex) ** 2 + x**2)
        inside = (
            (torch.atan2(x.abs(), y - apex) < opening)
            & (r < 1 - apex)
            & (r > max(0.0, -apex) * rng.uniform(0.8, 1.1))
        )
        return inside.float()
    slope, top = rng.uniform(-0.1, 0.4), rng.uniform(0.25, 0.6)
    return (x.abs() < top * width / height + slope * y).float()


def generic(image: Tensor, rng: Rng, generator: torch.Generator, ratio: float, dz: float) -> Tensor:
    """Any of the library's noises over a blurred image: microscopy, phantoms, drawings."""
    image = shade(image, rng, generator, dz, 0.3) if rng.random() < 0.5 else image
    image = thick_slices(image, rng, ratio, log_uniform(rng, 0.25, 2.0))
    level = log_uniform(rng, 0.005, 0.2)
    for kind in rng.permutation(["gaussian", "poisson", "perlin", "speckle", "rician"])[: rng.integers(0, 3)]:
        if kind == "gaussian":
            image = noise.gaussian(image, level, generator)
        elif kind == "poisson":
            image = noise.poisson(image, log_uniform(rng, 10, 1000), generator)
        elif kind == "perlin":
            image = noise.perlin(image, 2 * level, log_uniform(rng, 4, 40), generator)
        elif kind == "speckle":
            image = image * (
                1 + 2 * level * torch.randn(image.shape, generator=generator, device=image.device)
            )
        else:
            image = noise.rician(image, level, generator)
    return image


def shade(image: Tensor, rng: Rng, generator: torch.Generator, dz: float, most: float) -> Tensor:
    """Multiply by a smooth positive field (coil sensitivity, vignetting) and bend intensities by a gamma."""
    if rng.random() < 0.3:
        return image
    size = max(image.shape) * rng.uniform(0.35, 0.8)
    field = fractal_field(image.shape, [size], [1.0], dz, generator)
    image = image * torch.exp(field.mul_(rng.uniform(0, most)))
    if rng.random() < 0.4:
        image = image.clamp_(min=0).add_(1e-6).pow_(math.exp(rng.normal(0, 0.25)))
    return image


STYLES = {"CT": ct, "MR": mr, "US": ultrasound, "other": generic}
