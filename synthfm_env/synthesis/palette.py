"""Intensities of tissues in each style: Hounsfield-like units for CT, 0 to 1 for the others."""

from dataclasses import dataclass

import numpy as np

from synthfm_env.synthesis.recipe import Range, Style
from synthfm_env.synthesis.shapes import Rng, log_uniform


@dataclass
class Palette:
    """Draws mean intensities around one background level (SynthFM's contrast rule)."""

    style: Style
    base: float
    contrast: Range
    fat_level: float
    fluid_level: float
    bone_level: float
    air: float
    grain: float

    @staticmethod
    def draw(rng: Rng, style: Style, contrast: Range) -> "Palette":
        """Draw the levels that one volume shares."""
        if style == "CT":
            return Palette(style, rng.uniform(-10, 110), contrast, rng.uniform(-140, -60), rng.uniform(-10, 25),
                           rng.uniform(200, 1100), -1000.0, log_uniform(rng, 1.5, 22))  # fmt: skip
        air = 0.0 if rng.random() < 0.85 else rng.uniform(0, 0.3)
        base = rng.uniform(0.15, 0.75)
        if style == "US":
            base = rng.uniform(0.12, 0.6)
            return Palette(style, base, contrast, rng.uniform(0.2, 0.9), rng.uniform(0, 0.05),
                           rng.uniform(0.9, 2.0), 0.0, log_uniform(rng, 0.02, 0.2))  # fmt: skip
        if style == "other":
            if rng.random() < 0.6:
                base = rng.uniform(0, 0.12) if rng.random() < 0.7 else rng.uniform(0.8, 1.0)
            air = base if rng.random() < 0.7 else air
        fat, fluid = rng.uniform(0.03, 1.0), rng.choice([rng.uniform(0, 0.15), rng.uniform(0.75, 1.1)])
        return Palette(style, base, contrast, fat, float(fluid), float(rng.choice([0.03, rng.uniform(0.1, 0.9)])),
                       air, log_uniform(rng, 0.006, 0.12))  # fmt: skip

    def soft(self, rng: Rng, around: float | None = None) -> float:
        """Return a level near the background's (or ``around``), brighter or darker by a log-uniform contrast."""
        c = log_uniform(rng, *self.contrast) * (1 if rng.random() < 0.5 else -1)
        level = self.base if around is None else around
        if self.style == "CT":
            return level + c * 150
        if self.style == "other":
            return float(
                np.clip(level + c * 0.9 * (1 if level < 0.12 else -1 if level > 0.88 else 1), 0, 1.1)
            )
        return float(np.clip(level * (1 + c * (1.6 if c > 0 else 1.05)), 0, 1.15))

    def near(self, rng: Rng, level: float, share: float = 0.03) -> float:
        """Return a level that differs little from ``level``."""
        return level + rng.normal(0, share * (300 if self.style == "CT" else 1))

    def fat(self, rng: Rng) -> float:
        """Return a level of fat."""
        return self.near(rng, self.fat_level, 0.02)

    def fluid(self, rng: Rng) -> float:
        """Return a level of fluid."""
        return self.near(rng, self.fluid_level, 0.01)

    def bone(self, rng: Rng) -> float:
        """Return a level of compact bone."""
        return self.bone_level * rng.uniform(0.7, 1.2)

    def gas(self, rng: Rng) -> float:
        """Return a level of gas or lung."""
        if self.style == "CT":
            return rng.choice([rng.uniform(-1000, -950), rng.uniform(-900, -650)])
        return rng.uniform(0.8, 1.4) if self.style == "US" and rng.random() < 0.4 else rng.uniform(0, 0.08)

    def any(self, rng: Rng) -> float:
        """Return a level of whatever a structure may be made of: mostly soft tissue."""
        kind = rng.choice(5, p=[0.72, 0.08, 0.12, 0.04, 0.04])
        return [self.soft, self.fat, self.fluid, self.bone, self.gas][kind](rng)

    def amplitude(self, rng: Rng) -> float:
        """Return how strong the texture inside a structure is."""
        return self.grain * log_uniform(rng, 0.25, 2.5)
