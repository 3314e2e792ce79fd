"""Defines implicit shapes: functions f(points) that are positive inside and fall by about 1 per pixel at the border.

Points are (3, ...), coordinates (z, y, x) in pixels relative to the shape's centre; a slice is ``dz`` pixels thick. The
coordinates are the first axis, so that sums over them run along memory.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Rng = np.random.Generator
Array = NDArray[np.float64]
Reach = tuple[Array, Array]


def _even_directions(count: int) -> Array:
    """Return unit vectors (count, 3) that are spread evenly over the sphere."""
    k = np.arange(count) + 0.5
    polar, turn = np.arccos(1 - 2 * k / count), math.pi * (1 + 5**0.5) * k
    return np.stack([np.cos(polar), np.sin(polar) * np.cos(turn), np.sin(polar) * np.sin(turn)], 1)


_DIRECTIONS = _even_directions(200)


class Shape(Protocol):
    """Interface of a shape that the canvas can paint."""

    @property
    def reach(self) -> Reach:
        """Lowest and highest corner (z, y, x) of a box around the shape, in pixels from its centre."""

    @property
    def finest(self) -> float:
        """Smallest length in pixels that sampling must resolve."""

    def turned(self, frame: Array) -> Self:
        """Return the shape rotated, so that its axes become the columns of ``frame``."""

    def __call__(self, p: Tensor) -> Tensor:
        """Evaluate f at the points (3, ...)."""


def log_uniform(rng: Rng, low: float, high: float) -> float:
    """Draw from the log-uniform distribution on [low, high]."""
    return float(math.exp(rng.uniform(math.log(low), math.log(high))))


def rotation(rng: Rng, tilt: float) -> Array:
    """Draw a 3x3 rotation: any angle in the (y, x) plane, then a tilt of about ``tilt`` rad out of it."""
    a, b, c = rng.uniform(-math.pi, math.pi), *rng.normal(0, tilt, 2)
    plane = np.array([[1, 0, 0], [0, math.cos(a), -math.sin(a)], [0, math.sin(a), math.cos(a)]])
    about_y = np.array([[math.cos(b), 0, math.sin(b)], [0, 1, 0], [-math.sin(b), 0, math.cos(b)]])
    about_x = np.array([[math.cos(c), -math.sin(c), 0], [math.sin(c), math.cos(c), 0], [0, 0, 1]])
    return np.asarray(plane @ about_y @ about_x)


def tensor(values: Array, like: Tensor) -> Tensor:
    """Return the values as float32 on the device of ``like``."""
    return torch.as_tensor(values.astype(np.float32), device=like.device)


@lru_cache(maxsize=1024)
def bernstein(degree: int, points: int) -> Array:
    """Return the Bernstein polynomials C(n, i) t^i (1 - t)^(n - i), (points, degree + 1), with t evenly from 0 to 1."""
    i, t = np.arange(degree + 1), np.linspace(0, 1, points)[:, None]
    return np.asarray(np.array([math.comb(degree, int(k)) for k in i]) * t**i * (1 - t) ** (degree - i))


@dataclass(frozen=True)
class Star:
    """A star-shaped body: an ellipsoid whose radius is modulated by waves over the direction.

    Attributes:
        axes: (3,), radii in pixels.
        turn: (3, 3), its columns are the axes' directions.
        waves: (3, n), frequencies.
        phases: (n,).
        gains: (n,), relative amplitudes.
    """

    axes: Array
    turn: Array
    waves: Array
    phases: Array
    gains: Array

    @classmethod
    def draw(cls, rng: Rng, radius: float, bumpy: float = 0.25, elongation: float = 1.8, tilt: float = 0.6) -> "Star":
        """Draw a star.

        Args:
            rng: random generator.
            radius: approximate, in pixels.
            bumpy: relative size of bulges.
            elongation: largest ratio of an axis to the radius.
            tilt: of the first axis out of z, in rad.
        """
        axes = radius * np.exp(rng.uniform(-1, 1, 3) * math.log(elongation))
        count = int(rng.integers(3, 8))
        waves = rng.normal(0, rng.uniform(1.0, 3.0), (3, count))
        gains = rng.normal(0, 1, count)
        gains *= bumpy * rng.uniform(0.2, 1) / max(1e-6, float(np.abs(gains).sum()) / 1.5)
        return cls(axes, rotation(rng, tilt), waves, rng.uniform(0, 2 * math.pi, count), gains)

    @classmethod
    def ellipsoid(cls, axes: Array, turn: Array) -> "Star":
        """Return a plain ellipsoid."""
        return cls(axes, turn, np.zeros((3, 1)), np.zeros(1), np.zeros(1))

    def turned(self, frame: Array) -> "Star":
        """See ``Shape.turned``."""
        return Star(self.axes, frame @ self.turn, self.waves, self.phases, self.gains)

    def scaled(self, share: float) -> "Star":
        """Return the shape with its axes multiplied by ``share``."""
        return Star(self.axes * share, self.turn, self.waves, self.phases, self.gains)

    def mirrored(self) -> "Star":
        """Return the mirror image across the plane x = 0."""
        return replace(self, turn=np.diag([1.0, 1.0, -1.0]) @ self.turn)

    @cached_property
    def reach(self) -> Reach:
        """See ``Shape.reach``."""
        r = 1 + np.cos(_DIRECTIONS @ self.waves + self.phases) @ self.gains
        surface = (self.turn * self.axes) @ (_DIRECTIONS * r[:, None]).T
        # Bulges between two sampled directions may reach farther.
        low, high = surface.min(1), surface.max(1)
        return low - 0.03 * (high - low), high + 0.03 * (high - low)

    @cached_property
    def finest(self) -> float:
        """See ``Shape.finest``."""
        return float(self.axes.min())

    def __call__(self, p: Tensor) -> Tensor:
        """Evaluate f = (R(u)^2 - |q|^2) / 2R times the mean radius, with q in units of the axes and u = q / |q|.

        f is smooth at the centre and has slope 1 at the border.
        """
        q = tensor((self.turn / self.axes).T, p) @ p.flatten(1)
        rho2 = (q * q).sum(0)
        u = q.div_(rho2.sqrt().add_(1e-4))
        waves = torch.addmm(tensor(self.phases[:, None], p), tensor(self.waves.T, p), u).cos_()
        r = (tensor(self.gains, p) @ waves).add_(1)
        f = torch.sub(r, rho2.div_(r)).mul_(0.5 * float(np.prod(self.axes) ** (1 / 3)))
        return f.view(p.shape[1:])


@dataclass(frozen=True)
class Block:
    """A rounded cylinder with a waist about its first axis: vertebral bodies, discs.

    Attributes:
        axes: (3,), radii in pixels; the first is half the length.
        turn: (3, 3), its columns are the axes' directions.
        edge: power of the superellipsoid along the first axis; larger for sharper edges.
        waist: relative narrowing at the middle.
    """

    axes: Array
    turn: Array
    edge: float
    waist: float

    def turned(self, frame: Array) -> "Block":
        """See ``Shape.turned``."""
        return replace(self, turn=frame @ self.turn)

    @cached_property
    def reach(self) -> Reach:
        """See ``Shape.reach``."""
        half = np.sqrt(((self.turn * self.axes * 1.2) ** 2).sum(1))
        return -half, half

    @cached_property
    def finest(self) -> float:
        """See ``Shape.finest``."""
        return float(self.axes.min()) * 0.6

    def __call__(self, p: Tensor) -> Tensor:
        """Evaluate f of a superellipsoid, round in the plane, of power ``edge`` along the axis."""
        z, *plane = (tensor((self.turn / self.axes).T, p) @ p.flatten(1)).abs_()
        narrow = 1 - self.waist * (1 - z.clamp(max=1) ** 2)
        across = ((plane[0] / narrow) ** 2.6 + (plane[1] / narrow) ** 2.6) ** (self.edge / 2.6)
        f = (1 - (across + z**self.edge) ** (1 / self.edge)) * float(np.prod(self.axes) ** (1 / 3))
        return f.view(p.shape[1:])


@dataclass(frozen=True)
class Tube:
    """Balls along a curve: vessels, bowel, ribs.

    Attributes:
        path: (m, 3), centres of the balls in pixels from the shape's centre.
        radii: (m,), in pixels.
    """

    path: Array
    radii: Array

    @classmethod
    def along(cls, control: Array, radius: tuple[float, float], wavy: float = 0.0) -> "Tube":
        """Return the tube along a Bezier curve.

        Args:
            control: (n, 3), control points.
            radius: at the first and at the last point; linear between them.
            wavy: relative depth of pouches (haustra).
        """
        n = len(control) - 1
        length = float(np.sqrt((np.diff(control, axis=0) ** 2).sum(1)).sum())
        m = int(np.clip(math.ceil(length / (0.8 * min(radius))), 4, 200))
        weights = bernstein(n, m)
        radii = radius[0] + (radius[1] - radius[0]) * np.arange(m) / (m - 1)
        return cls(weights @ control, radii * (1 + wavy * np.sin(np.arange(m) * 1.3)))

    def turned(self, frame: Array) -> "Tube":
        """See ``Shape.turned``."""
        return Tube(self.path @ frame.T, self.radii)

    def scaled(self, share: float) -> "Tube":
        """Return the tube with its radii multiplied by ``share``, for example its lumen."""
        return Tube(self.path, self.radii * share)

    def pieces(self, most: int = 24) -> list["Tube"]:
        """Cut a long tube into pieces of at most ``most`` balls, each of which is sampled in a small box."""
        count = math.ceil(len(self.path) / most)
        cuts = np.arange(count + 1) * (len(self.path) - 1) // count
        return [Tube(self.path[a : b + 1], self.radii[a : b + 1]) for a, b in pairwise(cuts)]

    @cached_property
    def reach(self) -> Reach:
        """See ``Shape.reach``."""
        r = self.radii[:, None]
        return (self.path - r).min(0), (self.path + r).max(0)

    @cached_property
    def finest(self) -> float:
        """See ``Shape.finest``."""
        return float(self.radii.min())

    def __call__(self, p: Tensor) -> Tensor:
        """Evaluate f = max over the balls of (r^2 - |p - c|^2) / 2r.

        f is quadratic, so that coarse sampling keeps thin tubes.
        """
        c, r = self.path, self.radii[:, None]
        flat = p.flatten(1)
        # |p - c|^2 = |p|^2 - 2 pc + |c|^2, so all balls are one matrix product with the rows p and |p|^2.
        rows = torch.cat([flat, (flat * flat).sum(0, keepdim=True)])
        weights = tensor(np.concatenate([c / r, -0.5 / r], 1), p)
        f = torch.addmm(tensor((r * r - (c * c).sum(1, keepdims=True)) / (2 * r), p), weights, rows)
        return f.amax(0).view(p.shape[1:])
