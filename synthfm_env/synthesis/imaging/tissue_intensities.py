"""Draws intensities of tissues in each style: in HU for CT, about 0 to 1 for the others."""

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np

from synthfm_env.synthesis.anatomy.shapes import Rng, log_uniform
from synthfm_env.synthesis.recipe import Range, Style

# Cumulative shares of soft tissue, fat, fluid, bone and gas; `rng.choice` would sum them at every call.
_SUMS = np.cumsum([0.66, 0.09, 0.14, 0.05, 0.06])
_KINDS: list[float] = (_SUMS / _SUMS[-1]).tolist()


@dataclass(frozen=True)
class TissueIntensities:
    """Draws mean intensities around one background level, brighter or darker by a random contrast c.

    SynthFM's contrast rule is a function of background intensity, number of the shape and a random variable; no text at
    hand contains its formula. Here CT adds or subtracts 150 c HU, ultrasound adds 0.5 c or subtracts 0.35 c, and the
    others add c max(b, 0.6) or subtract 1.05 c b, with the background b. c is log-uniform.

    Attributes:
        style: of the imaging device.
        base: mean intensity of the background.
        contrast: range of c.
        fat_level: mean intensity of fat in this volume.
        fluid_level: of fluid.
        bone_level: of compact bone.
        air: of the surroundings of the body.
        grain: typical amplitude of texture.
    """

    style: Style
    base: float
    contrast: Range
    fat_level: float
    fluid_level: float
    bone_level: float
    air: float
    grain: float

    @classmethod
    def draw(cls, rng: Rng, style: Style, contrast: Range) -> "TissueIntensities":
        """Draw the levels that one volume shares."""
        if style == "CT":
            fat, fluid, bone = rng.uniform(-140, -60), rng.uniform(-10, 25), rng.uniform(200, 1100)
            base, grain = fat if rng.random() < 0.25 else rng.uniform(-20, 110), log_uniform(rng, 1.5, 25)
            return cls(style, base, contrast, fat, fluid, bone, -1000.0, grain)
        if style == "US":
            fat, fluid, bone = rng.uniform(0.15, 0.6), rng.uniform(-0.2, 0.06), rng.uniform(0.7, 1.1)
            base, grain = rng.uniform(0.06, 0.5), log_uniform(rng, 0.02, 0.15)
            return cls(style, base, contrast, fat, fluid, bone, 0.0, grain)
        base, air = rng.uniform(0.15, 0.75), 0.0 if rng.random() < 0.85 else rng.uniform(0, 0.3)
        if style == "other":  # dark or bright field half of the time
            if rng.random() < 0.6:
                base = rng.uniform(0, 0.12) if rng.random() < 0.7 else rng.uniform(0.8, 1.0)
            air = base if rng.random() < 0.7 else air
        fluid = rng.uniform(0, 0.15) if rng.random() < 0.5 else rng.uniform(0.75, 1.1)
        bone = 0.03 if rng.random() < 0.5 else rng.uniform(0.1, 0.9)
        return cls(style, base, contrast, rng.uniform(0.03, 1.0), fluid, bone, air, log_uniform(rng, 0.006, 0.12))

    def soft(self, rng: Rng, around: float | None = None, least: float = 0.0) -> float:
        """Return a level near the background's (or ``around``), brighter or darker by a log-uniform contrast.

        Args:
            rng: random generator.
            around: level to differ from; None for the background's.
            least: smallest contrast, for small structures, which need more of it to be visible.
        """
        low, high = self.contrast
        c = log_uniform(rng, min(max(low, least), high), high)
        level = self.base if around is None else around
        up = rng.random() < (0.5 if self.style == "CT" or 0.12 < level < 0.88 else 1.0 if level < 0.5 else 0.0)
        if self.style == "CT":
            return level + (c if up else -c) * 150
        if self.style == "US":
            return float(np.clip(level + (c * 0.5 if up else -c * 0.35), -0.1, 0.9))
        if up:
            return float(min(level + c * max(level, 0.6), 1.15))
        return float(max(level - c * 1.05 * level, 0.0))

    def near(self, rng: Rng, level: float, share: float = 0.03) -> float:
        """Return a level near ``level``, with a standard deviation of ``share`` of the display window."""
        return float(level + rng.normal(0, share * (300 if self.style == "CT" else 1)))

    def fat(self, rng: Rng) -> float:
        """Return a level of fat."""
        return self.near(rng, self.fat_level, 0.02)

    def fluid(self, rng: Rng) -> float:
        """Return a level of fluid."""
        return self.near(rng, self.fluid_level, 0.01)

    def bone(self, rng: Rng) -> float:
        """Return a level of compact bone."""
        return float(self.bone_level * rng.uniform(0.7, 1.2))

    def gas(self, rng: Rng) -> float:
        """Return a level of gas or lung."""
        if self.style == "CT":
            return float(rng.uniform(-1000, -950) if rng.random() < 0.5 else rng.uniform(-900, -650))
        return float(rng.uniform(0.8, 1.4) if self.style == "US" and rng.random() < 0.4 else rng.uniform(0, 0.08))

    def any(self, rng: Rng) -> float:
        """Return an intensity of a random tissue: mostly soft tissue."""
        kind = bisect_right(_KINDS, rng.random())
        return (self.soft, self.fat, self.fluid, self.bone, self.gas)[kind](rng)

    def amplitude(self, rng: Rng) -> float:
        """Return the amplitude of the texture inside a structure; its sign selects one of the volume's two textures."""
        return float(self.grain * log_uniform(rng, 0.25, 2.5) * (-1.0, 1.0)[rng.integers(2)])
