"""Maps between the screen and the beams of an ultrasound probe (scan conversion)."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from synthfm_env.synthesis.anatomy.shapes import Array, Rng

# Maps screen coordinates (y, x) to beam coordinates (depth, beam), or back. Screen coordinates are in image heights, y
# from the top and x from the middle; beam coordinates are 0 to 1.
_Map = Callable[[Array, Array], tuple[Array, Array]]


@dataclass(frozen=True)
class Probe:
    """A grid over the screen whose columns are beams and whose rows are depths.

    Attributes:
        in_view: bool (H, W), pixels that beams reach; None for all.
        beams: (R, B, 2), position of each grid point on the screen, for ``grid_sample``.
        screen: (H, W, 2), position of each pixel on the grid, for ``grid_sample``.
        spacing: pixels between neighbouring beams at middle depth.
    """

    in_view: Tensor | None
    beams: Tensor
    screen: Tensor
    spacing: float

    @classmethod
    def sector(cls, height: int, width: int, rng: Rng) -> Self:
        """Draw a phased or curved array: a fan of beams that would meet above the probe's face."""
        apex, opening = -rng.uniform(-0.03, 0.4), rng.uniform(0.4, 0.8)
        near = max(0.0, -apex) * rng.uniform(0.8, 1.1)
        return cls._fan(height, width, apex, opening, near, 1 - apex, whole=False)

    @classmethod
    def magnified(cls, height: int, width: int, rng: Rng) -> Self:
        """Draw a part of a fan that fills the screen."""
        above = rng.uniform(0.3, 2.0)
        half = 0.5 * width / height
        return cls._fan(height, width, -above, math.atan(half / above), above, math.hypot(1 + above, half), whole=True)

    @classmethod
    def trapezium(cls, height: int, width: int, rng: Rng) -> Self:
        """Draw a linear array whose outer beams are steered outwards, or a little inwards."""
        slope, top = rng.uniform(-0.1, 0.4), rng.uniform(0.3, 0.6) * width / height

        def to_beams(y: Array, x: Array) -> tuple[Array, Array]:
            return y, x / (2 * (top + slope * y)) + 0.5

        def to_screen(depth: Array, beam: Array) -> tuple[Array, Array]:
            return depth, (2 * beam - 1) * (top + slope * depth)

        return cls._between(height, width, to_beams, to_screen, height, 2 * (top + 0.5 * slope) * height, whole=False)

    @classmethod
    def _fan(
        cls, height: int, width: int, apex: float, opening: float, near: float, far: float, *, whole: bool
    ) -> Self:
        def to_beams(y: Array, x: Array) -> tuple[Array, Array]:
            depth = (np.hypot(y - apex, x) - near) / (far - near)
            return depth, np.arctan2(x, y - apex) / (2 * opening) + 0.5

        def to_screen(depth: Array, beam: Array) -> tuple[Array, Array]:
            radius, angle = near + depth * (far - near), (2 * beam - 1) * opening
            return apex + radius * np.cos(angle), radius * np.sin(angle)

        middle = 2 * opening * (near + far) / 2
        return cls._between(height, width, to_beams, to_screen, (far - near) * height, middle * height, whole=whole)

    @classmethod
    def _between(
        cls, height: int, width: int, to_beams: _Map, to_screen: _Map, long: float, wide: float, *, whole: bool
    ) -> Self:
        """Build a probe from its maps.

        Args:
            height: of the screen.
            width: of the screen.
            to_beams: from the screen to the beams.
            to_screen: from the beams to the screen.
            long: extent of the grid along the beams, in pixels.
            wide: extent across the beams at middle depth, in pixels.
            whole: whether beams reach the whole screen.
        """
        half = 0.5 * width / height
        y, x = np.meshgrid(np.linspace(0, 1, height), np.linspace(-half, half, width), indexing="ij")
        depth, beam = to_beams(y, x)
        inside = (depth > 0) & (depth < 1) & (beam > 0) & (beam < 1)
        rows, columns = max(8, round(long)), max(8, round(min(1.2 * wide, 1.5 * width)))
        grid = np.meshgrid(np.linspace(0, 1, rows), np.linspace(0, 1, columns), indexing="ij")
        at_y, at_x = to_screen(*grid)
        return cls(
            in_view=None if whole else torch.from_numpy(inside),
            beams=_sampling(at_x / half, 2 * at_y - 1),
            screen=_sampling(2 * beam - 1, 2 * depth - 1),
            spacing=wide / columns,
        )

    def to_beams(self, image: Tensor) -> Tensor:
        """Resample an image (D, H, W) along the beams, to (D, R, B)."""
        return _resampled(image, self.beams)

    def to_screen(self, echoes: Tensor) -> Tensor:
        """Resample echoes along the beams (D, R, B) to the screen, (D, H, W)."""
        return _resampled(echoes, self.screen)


def _sampling(across: Array, down: Array) -> Tensor:
    return torch.from_numpy(np.stack([across, down], -1).astype(np.float32))


def _resampled(image: Tensor, at: Tensor) -> Tensor:
    # Slices are passed as channels, so that interpolation weights are computed once.
    return F.grid_sample(image[None], at[None].to(image.device), align_corners=True, padding_mode="border")[0]
