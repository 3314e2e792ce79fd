"""Simulates imaging devices: turns mean intensities into images of CT, MR, ultrasound and others."""

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
class Scanner:
    """One imaging device of any style: its blur, shading and noise.

    Attributes:
        rng: draws the parameters.
        generator: draws the noise of each voxel.
        ratio: slice thickness over pixel size.
        dz: slice thickness over pixel size with which the anatomy was drawn.
        unit: scale of blur and grain in pixels; larger in large images, which are smoother.
        noise: factor on the strength of the noise.
        probe: an ultrasound's beams; None for beams straight down the rows.
        gradient_noise: whether the style "other" uses Perlin's noise instead of the faster value noise.
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
        """Return the device's image of a tissue's intensities, (D, H, W): in HU for CT, else about 0 to 1."""
        image = {"CT": self._ct, "MR": self._mr, "US": self._ultrasound, "other": self._other}[style](tissue)
        if self.rng.random() < 0.2:  # an image that was resampled: signal and noise are smoothed
            size = self.rng.uniform(0.5, 1.6) * self.unit
            image = gaussian_blur(image, (0, size, size))
        return image

    def _spread(self, image: Tensor, sharp: float) -> Tensor:
        """Blur by the point spread: ``sharp`` pixels in the plane, along z by the overlap of thick slices."""
        across = sharp
        if self.ratio > 1.5:
            across = self.rng.uniform(0.2, 0.6) if self.rng.random() < 0.5 else min(1.0, sharp / self.ratio)
        return gaussian_blur(image, (across, sharp, sharp))

    def _ct(self, image: Tensor) -> Tensor:
        """Apply the point spread, then white noise or the correlated noise of a reconstruction kernel."""
        rng = self.rng
        image = self._spread(image, log_uniform(rng, 0.3, 1.1) * self.unit)
        sigma = log_uniform(rng, 5.0, 90.0) * self.noise
        if rng.random() < 0.6:
            return noise.gaussian(image, sigma, self.generator).clamp_(-1024, 3071)
        grain = noise.gaussian(torch.zeros_like(image), 1.0, self.generator)
        size = np.full(2, rng.uniform(0.4, 1.2) * self.unit)
        if rng.random() < 0.3:  # streaks, as between shoulders or hips
            size[int(rng.integers(2))] *= rng.uniform(1.5, 4)
        grain = gaussian_blur(grain, (0.3, *size), wrap=True)
        return image.add_(grain, alpha=sigma / max(1e-6, float(grain.std()))).clamp_(-1024, 3071)

    def _mr(self, image: Tensor) -> Tensor:
        """Apply coil shading, gamma, point spread and Rician noise."""
        image = self._shaded(image, 0.4)
        image = self._spread(image, log_uniform(self.rng, 0.3, 1.2) * self.unit)
        return noise.rician(image, log_uniform(self.rng, 0.006, 0.1) * self.noise, self.generator)

    def _ultrasound(self, image: Tensor) -> Tensor:
        """Apply specular walls, attenuation, shadows and log-compressed speckle along the beams, then scan conversion.

        ``image`` has display intensities, which are converted to echo amplitudes first. Diverging beams give the
        speckle of a fan: fine along the beams, and coarser across them with depth.
        """
        rng, probe = self.rng, self.probe
        image = probe.to_beams(image) if probe else image
        decibels = rng.uniform(30, 65)
        depth = torch.linspace(0, 1, image.shape[1], device=image.device).view(1, -1, 1)
        # Gain, which an operator sets so that the picture is neither black nor white, and its fall with depth.
        level = float(image.clamp(0, 1).mean())
        gain = min(0.3, max(-0.4, rng.uniform(0.1, 0.42) - level)) + (0.5 - depth) * log_uniform(rng, 0.03, 0.6)
        if rng.random() < 0.4:  # shadows behind strong echoes, enhancement behind weak ones
            loss = torch.cumsum(image.clamp(-0.1, 1.1).sub_(0.75).clamp_(min=-0.02), 1)
            gain = gain - loss.clamp_(min=-5).mul_(log_uniform(rng, 0.3, 5) / image.shape[1])
        # Specular echoes at walls across the beam.
        walls = rng.uniform(0, 2.5) if rng.random() < 0.7 else 0.0
        edge = (image[:, 1:] - image[:, :-1]).abs_().mul_(walls)
        image = image + gain
        image[:, 1:] += edge
        # Speckle on the amplitudes, and log compression.
        amplitude = image.clamp_(-1, 1.3).sub_(1).mul_(decibels / 20 * math.log(10)).exp_()
        axial = log_uniform(rng, 0.4, 1.8) * self.unit
        lateral = axial * log_uniform(rng, 0.9, 3.0)
        cell = (0.5 if self.dz < 1.5 else 0.0, axial, lateral / (probe.spacing if probe else 1.0))
        amplitude = noise.speckle(amplitude, self.generator, cell, rng.uniform(0.25, 1) ** (1 / self.noise))
        shown = noise.log_compress(amplitude, decibels)
        if rng.random() < 0.3:  # blur across the beams in the far field
            blurred = gaussian_blur(shown, (0, 0, rng.uniform(1.0, 2.5) * self.unit))
            shown = torch.lerp(shown, blurred, depth * rng.uniform(0.5, 1))
        shown = probe.to_screen(shown) if probe else shown
        smooth = log_uniform(rng, 0.25, 1.2) * self.unit  # smoothing by the device
        return gaussian_blur(shown, (0, smooth, smooth))

    def _other(self, image: Tensor) -> Tensor:
        """Apply shading, blur and up to two kinds of noise: microscopy, phantoms, drawings."""
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
        """Multiply by a smooth positive field (coil sensitivity, vignetting) and apply a gamma."""
        rng = self.rng
        if rng.random() < 0.75:
            size = max(image.shape) * rng.uniform(0.35, 0.8)
            field = fractal_field(image.shape, [size], [1.0], self.dz, self.generator)
            image = image * field.mul_(rng.uniform(0, most)).exp_()
        if rng.random() < 0.4:
            image = image.clamp(min=0).add_(1e-6).pow_(math.exp(rng.normal(0, 0.25)))
        return image


def field_of_view(style: Style, height: int, width: int, rng: Rng) -> tuple[Tensor | None, Probe | None]:
    """Draw a device's field of view, bool (H, W) or None for the whole image, and an ultrasound's probe."""
    if style == "US":
        kind = rng.choice(["sector", "trapezium", "magnified", "straight"], p=[0.45, 0.25, 0.15, 0.15])
        if kind == "straight":
            return None, None
        draw = {"sector": Probe.sector, "trapezium": Probe.trapezium, "magnified": Probe.magnified}[str(kind)]
        probe = draw(height, width, rng)
        return probe.in_view, probe
    if style == "CT" and rng.random() < 0.08:
        y, x = np.meshgrid(np.linspace(0, 1, height), np.linspace(-0.5, 0.5, width) * width / height, indexing="ij")
        return torch.from_numpy(np.hypot(y - 0.5, x) < 0.5 * min(1.0, width / height)), None
    return None, None
