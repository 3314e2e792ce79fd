"""Adds noise by models that each state formula, parameters and source.

Images are float32 (D, H, W) of any unit; each function returns a new tensor and draws from ``generator``, whose
device must be the image's.
"""

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor

from synthfm_env.synthesis.drawing.fast_normal import normal
from synthfm_env.synthesis.drawing.random_fields import fractal_field, gaussian_blur

__all__ = ["gaussian", "gaussian_blur", "log_compress", "perlin", "poisson", "rician", "speckle", "value_noise"]

_EXACT_POISSON_BELOW = 10.0  # photons at intensity 1


def _shifted(field: Tensor) -> Tensor:
    """Return the field shifted by 0.38 of its rows; a shift by half of them would pair the same rows twice."""
    rows = field.flatten(0, 1)
    by = round(0.382 * len(rows))
    return torch.cat([rows[len(rows) - by :], rows[: len(rows) - by]]).view(field.shape)


def _magnitude(real: Tensor, imaginary: Tensor) -> Tensor:
    """Return |real + i imaginary| in the place of ``real``; ``hypot`` guards against overflow, at twice the time."""
    return real.square_().addcmul_(imaginary, imaginary).sqrt_()


def gaussian(image: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    """Additive Gaussian: y = x + sigma n, n ~ N(0, 1); mean x, variance sigma^2, white spectrum."""
    noise = normal(image.shape, generator)
    return torch.add(image, noise, alpha=sigma, out=noise)


def poisson(image: Tensor, photons: float, generator: torch.Generator) -> Tensor:
    """Signal-dependent Poisson: y = k / photons, k ~ Poisson(photons x); mean x, variance x / photons.

    ``photons`` is the count at intensity 1; x below 0 counts as 0. From ten photons on, k is drawn from
    N(photons x, photons x), which is twelve times as fast and equal in mean and variance.
    """
    signal = image.clamp(min=0)
    if photons < _EXACT_POISSON_BELOW:
        return torch.poisson(signal * photons, generator=generator) / photons
    return signal + (signal / photons).sqrt_().mul_(normal(image.shape, generator))


def perlin(image: Tensor, strength: float, size: float, generator: torch.Generator, dz: float = 1.0) -> Tensor:
    """Add Perlin's gradient noise: y = x + strength n / std(n), n = sum_o P_o / 2^o, octaves of size, size/2, size/4.

    P_o is 0 at the points of a lattice, where it has random unit gradients; between them the gradients' ramps are
    blended by 6 t^5 - 15 t^4 + 10 t^3 (Perlin 1985 and 2002). The lattice has a point at the first voxel.

    Args:
        image: float32 (D, H, W).
        strength: standard deviation of what is added, in units of the image.
        size: pixels between lattice points of the first octave, at least 2.
        generator: source of the gradients.
        dz: thickness of a slice in pixels.
    """
    noise = torch.zeros(image.shape, device=image.device)
    for octave in range(3):
        noise.add_(_gradient_noise(image.shape, max(2.0, size / 2**octave), dz, generator), alpha=0.5**octave)
    return image + noise.mul_(strength / max(float(noise.std(correction=0)), 1e-12))


def _gradient_noise(shape: Sequence[int], size: float, dz: float, generator: torch.Generator) -> Tensor:
    """Return one octave of Perlin's noise, (D, H, W); in the plane alone if there is one slice."""
    # For each axis: cell of the lattice, place in the cell from 0 to 1, and the fade that blends its two ends.
    device = generator.device
    axes = [axis for axis, n in enumerate(shape) if n > 1 or axis > 0]
    cells, parts, fades = [], [], []
    for axis in axes:
        place = torch.arange(shape[axis], device=device, dtype=torch.float32) * ((dz if axis == 0 else 1.0) / size)
        cell = place.floor().long()
        part = place - cell
        view = [-1 if other == axis else 1 for other in range(3)]
        cells.append(cell.view(view))
        parts.append(part.view(view))
        fades.append((part**3 * (part * (6 * part - 15) + 10)).view(view))
    # A random unit vector at each point of the lattice.
    lattice = [int(cell.max()) + 2 for cell in cells]
    gradients = torch.randn((len(axes), *lattice), generator=generator, device=device)
    gradients = gradients / gradients.norm(dim=0).clamp(min=1e-6)
    # Sum over the corners of a cell: gradient times offset, weighted by the fades.
    out = torch.zeros(tuple(shape), device=device)
    for corner in product((0, 1), repeat=len(axes)):
        at = tuple(cell + step for cell, step in zip(cells, corner, strict=True))
        ramp = torch.zeros(tuple(shape), device=device)
        weight = torch.ones((1, 1, 1), device=device)
        for number, step in enumerate(corner):
            ramp = ramp + gradients[number][at] * (parts[number] - step)
            weight = weight * (fades[number] if step else 1 - fades[number])
        out += ramp * weight
    return out


def value_noise(image: Tensor, strength: float, size: float, generator: torch.Generator, dz: float = 1.0) -> Tensor:
    """Add fractal value noise: y = x + strength sum_o w_o B_o, with octaves of size, size/2, size/4 pixels.

    Weights 1, 1/2, 1/4, normalised to a standard deviation of about ``strength``. B_o is a cubic B-spline of normal
    coefficients on a lattice, smooth to the second derivative: several times faster than ``perlin``, and without its
    zeros at the lattice points.
    """
    sizes = [max(2.0, size / 2**octave) for octave in range(3)]
    noise = fractal_field(image.shape, sizes, [1.0, 0.5, 0.25], dz, generator)
    return torch.add(image, noise, alpha=strength, out=noise)


def rician(image: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    """Magnitude of a complex signal: y = |x + sigma (n1 + i n2)|, n1, n2 ~ N(0, 1).

    E[y^2] = x^2 + 2 sigma^2; where x is 0, y is Rayleigh with mean sigma sqrt(pi/2) (Gudbjartsson and Patz 1995).
    n2 is n1 shifted by 0.38 of the volume's rows, see ``speckle``.
    """
    real = normal(image.shape, generator).mul_(sigma)
    imaginary = _shifted(real)
    return _magnitude(real.add_(image), imaginary)


def speckle(
    amplitude: Tensor, generator: torch.Generator, size: Sequence[float] = (0, 0, 0), share: float = 1.0
) -> Tensor:
    """Speckle: y = x ((1 - share) + share r), r = |n1 + i n2| / sqrt(2) (Goodman 1975).

    With ``share`` 1 it is fully developed: y / x is Rayleigh with E[r^2] = 1, mean sqrt(pi)/2. The complex field is
    blurred by ``size`` voxels (z, y, x), the resolution cell, and brought back to unit variance. Its imaginary part
    is the real one shifted by 0.38 of the volume's rows, independent at every distance shorter than that, at half the
    cost.
    """
    real = gaussian_blur(normal(amplitude.shape, generator), size, wrap=True)
    real = real.div_(float(real.pow(2).mean().sqrt()) * 2**0.5)
    r = _magnitude(real, _shifted(real))
    return (r if share == 1 else r.mul_(share).add_(1 - share)).mul_(amplitude)


def log_compress(amplitude: Tensor, decibels: float) -> Tensor:
    """Map amplitudes to [0, 1] over a dynamic range: 1 + 20 log10(y) / decibels, cut at both ends."""
    return amplitude.clamp(min=1e-6).log10_().mul_(20 / decibels).add_(1).clamp_(0, 1)
