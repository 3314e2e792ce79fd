"""Builds Bezier organs: closed curves as in SynthFM, and masks that evolve from slice to slice as in SynthFM-3D."""

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from synthfm_env.synthesis.anatomy.shapes import Array, Reach, Rng, bernstein, log_uniform, rotation, tensor

_HALF_WIDTH = 1.5  # half the side of the table of distances, in radii of the contour
_GRID = 28  # entries of the table along a side
_LINE = np.linspace(-_HALF_WIDTH, _HALF_WIDTH, _GRID)
_LINE_STEP = 2 * _HALF_WIDTH / (_GRID - 1)
_LEVELS = np.linspace(-1, 1, 7)  # slices, in half lengths, from which the extent of a loft is taken


def bezier_contour(rng: Rng, points: int = 36) -> Array:
    """Return a closed contour (about ``points``, 2) from 4 to 12 random control points, scaled to radius 1.

    Two kinds: one Bezier curve that ends where it starts (smooth, SynthFM's), or a chain of quadratic Bezier arcs
    that meet at the mid-points of the control polygon, which keeps more of its corners.
    """
    count = int(rng.integers(4, 13))
    even = np.linspace(0, 2 * math.pi, count, endpoint=False)
    angles = (np.sort(rng.uniform(0, 2 * math.pi, count)) + even) / 2
    radii = np.exp(rng.uniform(-1.2, 0.0, count))
    control = np.stack([radii * np.sin(angles), radii * np.cos(angles)], 1)
    if rng.random() < 0.4:
        curve = bernstein(count, points + 1)[:-1] @ np.concatenate([control, control[:1]])
    else:
        start, end = (np.roll(control, 1, 0) + control) / 2, (control + np.roll(control, -1, 0)) / 2
        t = np.linspace(0, 1, max(4, points // count), endpoint=False)[:, None, None]
        curve = ((1 - t) ** 2 * start + 2 * t * (1 - t) * control + t**2 * end).transpose(1, 0, 2).reshape(-1, 2)
    curve = curve - curve.mean(0)
    return np.asarray(curve / np.abs(curve).max())


def polygon_distance(polygon: Array, line: Array = _LINE) -> Array:
    """Return the signed distance to a polygon on the grid ``line`` x ``line``, positive if the winding number is not 0.

    Args:
        polygon: (n, 2), corners (y, x).
        line: (m,), coordinates of the grid along both axes.

    Returns:
        float64 (m, m).
    """
    # Arrays are (edges, y, x): sums and minima along the first axis are fast, and terms in y alone are not repeated.
    # Distance to the nearest point of each edge, a + t (b - a) with t clamped to [0, 1].
    y, x = line.astype(np.float32)[:, None], line.astype(np.float32)
    a = polygon.astype(np.float32)
    ay, ax = a.T[:, :, None, None]
    by, bx = np.roll(a, -1, 0).T[:, :, None, None]
    ey, ex, ry, rx = by - ay, bx - ax, y - ay, x - ax
    length2 = np.maximum(ey * ey + ex * ex, 1e-12)
    t = ry * (ey / length2) + rx * (ex / length2)
    np.minimum(np.maximum(t, 0, out=t), 1, out=t)
    dy, dx = t * ey, t
    np.subtract(ry, dy, out=dy)
    dx *= ex
    np.subtract(rx, dx, out=dx)
    dy *= dy
    dx *= dx
    dy += dx
    distance = np.sqrt(dy.min(0))
    # Winding number: edges that cross the row of a point upwards on its left, less those that cross it downwards.
    left = ex * ry > ey * rx
    upward, downward = (ay <= y) & (by > y), (ay > y) & (by <= y)
    crossings = (upward & left).view(np.int8) - (downward & ~left).view(np.int8)
    winding = crossings.sum(0, dtype=np.int8)  # no such curve winds 128 times
    return np.asarray(np.where(winding != 0, distance, -distance), np.float64)


@dataclass(frozen=True)
class Loft:
    """A Bezier contour that evolves from slice to slice: birth, growth, the slice where shrinking begins, death.

    Dilating or eroding a mask by d pixels adds d to its signed distance or takes it away, so the recursion over
    slices has a closed form: f(z, y, x) = distance(y, x) - rate * |z - turning slice| ** power, with one rate for
    growth and one for shrinking. An organ whose birth is ``abrupt`` starts at full size instead of growing from
    nothing. Source: second-hand accounts of SynthFM-3D, whose text is not public; the rates' ranges are ours.

    All lengths below are in units of ``radius``.

    Attributes:
        radius: in pixels.
        turn: (3, 3), its columns are the directions of the loft's axes; the first is across the slices.
        distance: table of the signed distance to the contour in the plane.
        lean: (2,), shift of the contour in the plane for each unit along the axis.
        half: half the length along the axis.
        rates: of growth and of shrinking.
        power: of the distance from the turning slice.
        turning: place along the axis where growth ends and shrinking begins.
        abrupt: whether the loft starts at full size.
    """

    radius: float
    turn: Array
    distance: Array
    lean: Array
    half: float
    rates: tuple[float, float]
    power: float
    turning: float
    abrupt: bool

    @classmethod
    def draw(cls, rng: Rng, radius: float, tilt: float = 0.25) -> "Loft":
        """Draw a loft of about ``radius`` pixels."""
        distance = polygon_distance(bezier_contour(rng))
        half = log_uniform(rng, 0.5, 2.2)
        turning = rng.uniform(-0.5, 0.5) * half
        depth, power = float(distance.max()), rng.uniform(1.0, 2.6)
        rates = (depth / (half + turning) ** power, depth / (half - turning) ** power)
        turn, lean = rotation(rng, tilt), rng.normal(0, 0.25, 2)
        return cls(radius, turn, distance, lean, half, rates, power, turning, bool(rng.random() < 0.2))

    def turned(self, frame: Array) -> "Loft":
        """Return the shape in another frame."""
        return replace(self, turn=frame @ self.turn)

    @cached_property
    def reach(self) -> Reach:
        """The corners, lowest and highest (z, y, x) in pixels, of a box around the shape."""
        z = self.half * _LEVELS[:, None, None]
        rate = np.where(z < self.turning, *self.rates)
        y, x = np.meshgrid(_LINE, _LINE, indexing="ij")
        near = self.distance - rate * np.abs(z - self.turning) ** self.power > -_LINE_STEP
        z = np.broadcast_to(z, near.shape)[near]
        plane = np.stack([np.broadcast_to(g, near.shape)[near] for g in (y, x)]) + self.lean[:, None] * z
        points = self.turn @ np.concatenate([z[None], plane]) * self.radius
        low, high = points.min(1), points.max(1)
        return low - 0.015 * (high - low), high + 0.015 * (high - low)

    @cached_property
    def finest(self) -> float:
        """The length in pixels that sampling must resolve."""
        return self.radius * min(float(self.distance.max()), self.half)

    def __call__(self, p: Tensor) -> Tensor:
        """Evaluate f at the points (3, ...)."""
        # Coordinates along the axis and in the table, which leans along the axis.
        own = (self.turn / self.radius).T.copy()
        own[1:] = (own[1:] - self.lean[:, None] * own[0]) / _HALF_WIDTH
        q = tensor(own, p) @ p.flatten(1)
        z, plane = q[0], q[1:]
        table = tensor(self.distance, p)[None, None]
        near = F.grid_sample(table, plane.flip(0).T.view(1, -1, 1, 2), align_corners=True, padding_mode="border")
        beyond = plane.abs_().amax(0).sub_(1).clamp_(min=0).mul_(_HALF_WIDTH)
        after = z - self.turning
        rate = torch.where(after < 0, self.rates[0], self.rates[1])
        f = near.view(-1).sub_(beyond).sub_(after.abs_().clamp_(min=1e-4).pow_(self.power).mul_(rate))
        if self.abrupt:
            f = torch.minimum(f, z + self.half * 0.6)
        return f.mul_(self.radius).view(p.shape[1:])
