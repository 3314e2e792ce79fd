"""From mean intensities to an image: what CT, MR, ultrasound and other devices do to them."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from synthfm_env.synthesis.anatomy.shapes import Rng, log_uniform
from synthfm_env.synthesis.drawing.random_fields import fractal_field, gaussian_blur
from synthfm_env.synthesis.imaging import noise
from synthfm_env.synthesis.imaging.ultrasound_probe import Probe
from synthfm_env.synthesis.recipe import Style


@dataclass(frozen=True)
class Device:
    """What an image is taken with.

    Attributes:
        rng: draws the parameters.
        generator: draws the dense noise.
        ratio: slice thickness over pixel size.
        dz: the same as the anatomy was drawn with.
        unit: how many pixels a detail of one pixel at 128 x 128 covers; large images are smoother.
        noise: factor on the strength of the noise.
        probe: where an ultrasound's beams go; None for straight down the rows.
        gradient_noise: whether devices of the style "other" take Perlin's noise instead of the quicker value noise.
    """

    rng: Rng
    generator: torch.Generator
    ratio: float
    dz: float
    unit: float
    noise: float
    probe: Probe | None = None
    gradient_noise: bool = False

    def image(self, style: Style, tissue: Tensor) -> Tensor:
        """Return the image (D, H, W) of the tissue's intensities, in HU for CT, about 0 to 1 for the others."""
        image = {"CT": self._ct, "MR": self._mr, "US": self._ultrasound, "other": self._other}[style](tissue)
        if self.rng.random() < 0.2:  # resampled on the way, so that signal and noise are smooth alike
            size = self.rng.uniform(0.5, 1.6) * self.unit
            image = gaussian_blur(image, (0, size, size))
        return image

    def _spread(self, image: Tensor, sharp: float) -> Tensor:
        """Blur by the point spread: ``sharp`` pixels in the plane; along z by what thick slices overlap."""
        across = sharp
        if self.ratio > 1.5:
            across = self.rng.uniform(0.2, 0.6) if self.rng.random() < 0.5 else min(1.0, sharp / self.ratio)
        return gaussian_blur(image, (across, sharp, sharp))

    def _ct(self, image: Tensor) -> Tensor:
        """Point spread and white or correlated Gaussian noise (the reconstruction kernel's)."""
        rng = self.rng
        image = self._spread(image, log_uniform(rng, 0.3, 1.1) * self.unit)
        sigma = log_uniform(rng, 5.0, 90.0) * self.noise
        if rng.random() < 0.6:
            return noise.gaussian(image, sigma, self.generator).clamp_(-1024, 3071)
        grain = noise.gaussian(torch.zeros_like(image), 1.0, self.generator)
        size = np.full(2, rng.uniform(0.4, 1.2) * self.unit)
        if rng.random() < 0.3:  # streaks, as behind shoulders and hips
            size[int(rng.integers(2))] *= rng.uniform(1.5, 4)
        grain = gaussian_blur(grain, (0.3, *size), wrap=True)
        return image.add_(grain, alpha=sigma / max(1e-6, float(grain.std()))).clamp_(-1024, 3071)

    def _mr(self, image: Tensor) -> Tensor:
        """Coil shading, gamma, point spread and Rician noise."""
        image = self._shaded(image, 0.4)
        image = self._spread(image, log_uniform(self.rng, 0.3, 1.2) * self.unit)
        return noise.rician(image, log_uniform(self.rng, 0.006, 0.1) * self.noise, self.generator)

    def _ultrasound(self, image: Tensor) -> Tensor:
        """Specular walls, attenuation, shadows and log-compressed speckle along the beams, then scan conversion.

        ``image`` is what an echo of that strength shows on the screen, so it is taken back to amplitudes first.
        Beams that part make the speckle of a fan: as fine as the pulse is short along them, coarser and coarser across.
        """
        rng, probe = self.rng, self.probe
        image = probe.scanned(image) if probe else image
        decibels = rng.uniform(30, 65)
        depth = torch.linspace(0, 1, image.shape[1], device=image.device).view(1, -1, 1)
        # The operator turns the gain until the picture is neither black nor white.
        level = float(image.clamp(0, 1).mean())
        gain = min(0.3, max(-0.4, rng.uniform(0.1, 0.42) - level)) + (0.5 - depth) * log_uniform(rng, 0.03, 0.6)
        if rng.random() < 0.4:  # what reflects strongly leaves a shadow, what hardly reflects lets more through
            loss = torch.cumsum(image.clamp(-0.1, 1.1).sub_(0.75).clamp_(min=-0.02), 1)
            gain = gain - loss.clamp_(min=-5).mul_(log_uniform(rng, 0.3, 5) / image.shape[1])
        walls = rng.uniform(0, 2.5) if rng.random() < 0.7 else 0.0
        edge = (image[:, 1:] - image[:, :-1]).abs_().mul_(walls)
        image = image + gain
        image[:, 1:] += edge
        amplitude = image.clamp_(-1, 1.3).sub_(1).mul_(decibels / 20 * math.log(10)).exp_()
        axial = log_uniform(rng, 0.4, 1.8) * self.unit
        lateral = axial * log_uniform(rng, 0.9, 3.0)
        cell = (0.5 if self.dz < 1.5 else 0.0, axial, lateral / (probe.spacing if probe else 1.0))
        amplitude = noise.speckle(amplitude, self.generator, cell, rng.uniform(0.25, 1) ** (1 / self.noise))
        shown = noise.log_compress(amplitude, decibels)
        if rng.random() < 0.3:  # the far field is blurred sideways
            blurred = gaussian_blur(shown, (0, 0, rng.uniform(1.0, 2.5) * self.unit))
            shown = torch.lerp(shown, blurred, depth * rng.uniform(0.5, 1))
        shown = probe.shown(shown) if probe else shown
        smooth = log_uniform(rng, 0.25, 1.2) * self.unit  # what the machine does to look better
        return gaussian_blur(shown, (0, smooth, smooth))

    def _other(self, image: Tensor) -> Tensor:
        """Any of the library's noises over a blurred image: microscopy, phantoms, drawings."""
        rng, generator = self.rng, self.generator
        image = self._shaded(image, 0.3) if rng.random() < 0.5 else image
        image = self._spread(image, log_uniform(rng, 0.25, 2.0) * self.unit)
        level = log_uniform(rng, 0.005, 0.2) * self.noise
        for kind in rng.permutation(["gaussian", "poisson", "lattice", "speckle", "rician"])[: rng.integers(0, 3)]:
            if kind == "gaussian":
                image = noise.gaussian(image, level, generator)
            elif kind == "poisson":
                image = noise.poisson(image, log_uniform(rng, 10, 1000), generator)
            elif kind == "lattice":
                add = noise.perlin if self.gradient_noise else noise.value_noise
                image = add(image, level, log_uniform(rng, 4, 40) * self.unit, generator, self.dz)
            elif kind == "speckle":
                image = noise.speckle(image, generator, (0, 0.5, 0.5), min(1.0, 2 * level))
            else:
                image = noise.rician(image, level, generator)
        return image

    def _shaded(self, image: Tensor, most: float) -> Tensor:
        """Multiply by a smooth positive field (coil sensitivity, vignetting) and bend intensities by a gamma."""
        rng = self.rng
        if rng.random() < 0.75:
            size = max(image.shape) * rng.uniform(0.35, 0.8)
            field = fractal_field(image.shape, [size], [1.0], self.dz, self.generator)
            image = image * field.mul_(rng.uniform(0, most)).exp_()
        if rng.random() < 0.4:
            image = image.clamp(min=0).add_(1e-6).pow_(math.exp(rng.normal(0, 0.25)))
        return image


def field_of_view(style: Style, height: int, width: int, rng: Rng) -> tuple[Tensor | None, Probe | None]:
    """Return what the device sees, bool (H, W) or None for all, and where an ultrasound's beams go."""
    if style == "US":
        kind = rng.choice(["sector", "trapezium", "magnified", "straight"], p=[0.45, 0.25, 0.15, 0.15])
        if kind == "straight":
            return None, None
        draw = {"sector": Probe.sector, "trapezium": Probe.trapezium, "magnified": Probe.magnified}[str(kind)]
        probe = draw(height, width, rng)
        return probe.seen, probe
    if style == "CT" and rng.random() < 0.08:
        y, x = np.meshgrid(np.linspace(0, 1, height), np.linspace(-0.5, 0.5, width) * width / height, indexing="ij")
        return torch.from_numpy(np.hypot(y - 0.5, x) < 0.5 * min(1.0, width / height)), None
    return None, None
