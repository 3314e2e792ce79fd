"""Implicit shapes: each is a function f(points) that is positive inside, about 1 a pixel at the border.

Points are (..., 3), (z, y, x) in pixels relative to the shape's centre, a slice being ``dz`` pixels thick.
"""

import math
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

Rng = np.random.Generator
Array = NDArray[np.float64]


def log_uniform(rng: Rng, low: float, high: float) -> float:
    """Draw from the log-uniform distribution on [low, high]."""
    return float(math.exp(rng.uniform(math.log(low), math.log(high))))


def rotation(rng: Rng, tilt: float) -> Array:
    """Return a 3x3 rotation: any angle in the (y, x) plane, then a tilt of about ``tilt`` rad out of it."""
    a, b, c = rng.uniform(-math.pi, math.pi), *rng.normal(0, tilt, 2)
    plane = np.array([[1, 0, 0], [0, math.cos(a), -math.sin(a)], [0, math.sin(a), math.cos(a)]])
    about_y = np.array([[math.cos(b), 0, math.sin(b)], [0, 1, 0], [-math.sin(b), 0, math.cos(b)]])
    about_x = np.array([[math.cos(c), -math.sin(c), 0], [math.sin(c), math.cos(c), 0], [0, 0, 1]])
    return np.asarray(plane @ about_y @ about_x)


def _frame(turn: Array, scale: Array, device: torch.device) -> Tensor:
    return torch.as_tensor(turn / scale, dtype=torch.float32, device=device)


@dataclass
class Star:
    """A star-shaped body: an ellipsoid whose radius is modulated by waves over the direction."""

    axes: Array
    turn: Array
    waves: Array
    phases: Array
    gains: Array

    @staticmethod
    def draw(
        rng: Rng, radius: float, bumpy: float = 0.25, elongation: float = 1.8, tilt: float = 0.6
    ) -> "Star":
        """Draw one of about ``radius`` pixels; ``bumpy`` is the relative size of its bulges."""
        axes = radius * np.exp(rng.uniform(-1, 1, 3) * math.log(elongation))
        count = int(rng.integers(3, 8))
        waves = rng.normal(0, rng.uniform(1.0, 3.0), (3, count))
        gains = rng.normal(0, 1, count)
        gains *= bumpy * rng.uniform(0.2, 1) / max(1e-6, np.abs(gains).sum() / 1.5)
        return Star(axes, rotation(rng, tilt), waves, rng.uniform(0, 2 * math.pi, count), gains)

    @property
    def reach(self) -> Array:
        """Half extent (z, y, x) in pixels."""
        return np.asarray(np.sqrt(((self.turn * self.axes) ** 2).sum(1)) * (1 + np.abs(self.gains).sum()))

    @property
    def finest(self) -> float:
        """The size in pixels of what sampling must resolve."""
        return float(self.axes.min())

    def __call__(self, p: Tensor) -> Tensor:
        """Evaluate f."""
        q = p @ _frame(self.turn, self.axes, p.device)
        rho2 = (q * q).sum(-1)
        u = q / (rho2.sqrt() + 1e-4).unsqueeze(-1)
        waves = torch.as_tensor(self.waves, dtype=torch.float32, device=p.device)
        phases = torch.as_tensor(self.phases, dtype=torch.float32, device=p.device)
        gains = torch.as_tensor(self.gains, dtype=torch.float32, device=p.device)
        r = 1 + torch.cos(u @ waves + phases) @ gains
        scale = float(np.prod(self.axes) ** (1 / 3))
        return (r * r - rho2) / (2 * r) * scale


@dataclass
class Block:
    """A rounded box (superellipsoid) with a waist: vertebral bodies, discs, wedges."""

    axes: Array
    turn: Array
    power: float
    waist: float

    @property
    def reach(self) -> Array:
        """Half extent (z, y, x) in pixels."""
        return np.asarray(np.sqrt(((self.turn * self.axes * 1.2) ** 2).sum(1)))

    @property
    def finest(self) -> float:
        """The size in pixels of what sampling must resolve."""
        return float(self.axes.min()) * 0.5

    def __call__(self, p: Tensor) -> Tensor:
        """Evaluate f."""
        q = (p @ _frame(self.turn, self.axes, p.device)).abs()
        narrow = 1 - self.waist * (1 - q[..., 0].clamp(max=1) ** 2)
        rho = (
            q[..., 0] ** self.power + (q[..., 1] / narrow) ** self.power + (q[..., 2] / narrow) ** self.power
        ) ** (1 / self.power)
        return (1 - rho) * float(np.prod(self.axes) ** (1 / 3))


def bezier_contour(rng: Rng, points: int = 40) -> Array:
    """Return a closed Bezier curve (points, 2) with 4 to 12 random control points, scaled to radius 1."""
    count = int(rng.integers(4, 13))
    angles = (
        np.sort(rng.uniform(0, 2 * math.pi, count)) * 0.5
        + np.linspace(0, 2 * math.pi, count, endpoint=False) * 0.5
    )
    radii = np.exp(rng.uniform(-1.2, 0.0, count))
    control = np.stack([radii * np.sin(angles), radii * np.cos(angles)], 1)
    # A closed curve of quadratic Bezier arcs: the arcs join at the mid-points of the control polygon.
    following = np.roll(control, -1, 0)
    start, end = (np.roll(control, 1, 0) + control) / 2, (control + following) / 2
    t = np.linspace(0, 1, max(4, points // count), endpoint=False)[:, None, None]
    curve = ((1 - t) ** 2 * start + 2 * t * (1 - t) * control + t**2 * end).transpose(1, 0, 2).reshape(-1, 2)
    curve -= curve.mean(0)
    return np.asarray(curve / np.abs(curve).max())


def polygon_distance(polygon: Array, size: int = 32, half: float = 1.5) -> Array:
    """Return the signed distance (positive inside, non-zero winding) to a polygon on a square (size, size) grid."""
    line = np.linspace(-half, half, size)
    y, x = np.meshgrid(line, line, indexing="ij")
    p = np.stack([y.ravel(), x.ravel()], 1).astype(np.float32)[:, None]
    a, b = polygon.astype(np.float32)[None], np.roll(polygon, -1, 0).astype(np.float32)[None]
    edge, rel = b - a, p - a
    t = np.clip((rel * edge).sum(-1) / np.maximum((edge**2).sum(-1), 1e-12), 0, 1)
    near = rel - t[..., None] * edge
    distance = np.sqrt((near**2).sum(-1).min(1))
    cross = edge[..., 1] * rel[..., 0] - edge[..., 0] * rel[..., 1]
    up = (a[..., 0] <= p[..., 0]) & (b[..., 0] > p[..., 0]) & (cross > 0)
    down = (a[..., 0] > p[..., 0]) & (b[..., 0] <= p[..., 0]) & (cross < 0)
    winding = up.sum(1) - down.sum(1)
    return np.asarray(np.where(winding != 0, distance, -distance).reshape(size, size))


@dataclass
class Loft:
    """A Bezier contour that evolves from slice to slice: birth, growth, the slice where shrinking begins, death.

    Dilating or eroding a mask by d pixels adds or takes d from its distance map, so the recursion over slices
    has a closed form: f(z, y, x) = distance(y, x) - (growth or shrink rate) * |z - turning slice| ** power.
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
    half_width: float = 1.5
    depth: float = field(init=False)

    def __post_init__(self) -> None:
        self.depth = float(self.distance.max())

    @staticmethod
    def draw(rng: Rng, radius: float, tilt: float = 0.25) -> "Loft":
        """Draw one of about ``radius`` pixels."""
        distance = polygon_distance(bezier_contour(rng))
        half = log_uniform(rng, 0.5, 2.2)
        turning = rng.uniform(-0.5, 0.5) * half
        depth = float(distance.max())
        power = rng.uniform(1.0, 2.6)
        rates = (depth / (half + turning) ** power, depth / (half - turning) ** power)
        return Loft(
            radius,
            rotation(rng, tilt),
            distance,
            rng.normal(0, 0.25, 2),
            half,
            rates,
            power,
            turning,
            bool(rng.random() < 0.2),
        )

    @property
    def reach(self) -> Array:
        """Half extent (z, y, x) in pixels."""
        axes = np.array([self.half, *(1 + np.abs(self.lean) * self.half)])
        return np.asarray(np.abs(self.turn) @ axes * self.radius * 1.02)

    @property
    def finest(self) -> float:
        """The size in pixels of what sampling must resolve."""
        return self.radius * min(self.depth, self.half)

    def __call__(self, p: Tensor) -> Tensor:
        """Evaluate f."""
        q = p @ _frame(self.turn, np.full(3, self.radius), p.device)
        z = q[..., 0]
        lean = torch.as_tensor(self.lean, dtype=torch.float32, device=p.device)
        plane = (q[..., 1:] - z.unsqueeze(-1) * lean) / self.half_width
        table = torch.as_tensor(self.distance, dtype=torch.float32, device=p.device)[None, None]
        flat = plane.flip(-1).reshape(1, -1, 1, 2)
        near = F.grid_sample(table, flat, align_corners=True, padding_mode="border").view(z.shape)
        outside = (plane.abs().amax(-1) - 1).clamp(min=0) * self.half_width
        after = z - self.turning
        change = (
            torch.where(after < 0, self.rates[0], self.rates[1]) * after.abs().clamp(min=1e-4) ** self.power
        )
        f = near - outside - change
        if self.abrupt:
            f = torch.minimum(f, z + self.half * 0.6)
        return f * self.radius


@dataclass
class Tube:
    """Balls along a curve: vessels, bowel, ribs, ducts. ``path`` (m, 3) pixels about the centre, ``radii`` (m,)."""

    path: Array
    radii: Array

    @staticmethod
    def along(control: Array, radius: tuple[float, float]) -> "Tube":
        """Return the tube along the Bezier curve with these (n, 3) control points, its radius going linearly."""
        n = len(control) - 1
        length = float(np.sqrt((np.diff(control, axis=0) ** 2).sum(1)).sum())
        m = int(np.clip(math.ceil(length / (0.8 * min(radius))), 4, 160))
        t = np.linspace(0, 1, m)[:, None]
        k = np.arange(n + 1)
        bernstein = np.array([math.comb(n, int(i)) for i in k]) * t**k * (1 - t) ** (n - k)
        return Tube(bernstein @ control, np.linspace(*radius, m))

    def pieces(self, most: int = 16) -> list["Tube"]:
        """Cut a long tube, so that each piece is sampled in a small box of its own."""
        count = math.ceil(len(self.path) / most)
        cuts = np.linspace(0, len(self.path) - 1, count + 1).astype(int)
        return [
            Tube(self.path[a : b + 1], self.radii[a : b + 1])
            for a, b in zip(cuts[:-1], cuts[1:], strict=True)
        ]

    @property
    def reach(self) -> Array:
        """Half extent (z, y, x) in pixels; the box is about ``offset``."""
        low, high = (self.path - self.radii[:, None]).min(0), (self.path + self.radii[:, None]).max(0)
        return np.asarray((high - low) / 2)

    @property
    def offset(self) -> Array:
        """The middle of the box, relative to the centre."""
        low, high = (self.path - self.radii[:, None]).min(0), (self.path + self.radii[:, None]).max(0)
        return np.asarray((high + low) / 2)

    @property
    def finest(self) -> float:
        """The size in pixels of what sampling must resolve."""
        return float(self.radii.min()) * 0.7

    def __call__(self, p: Tensor) -> Tensor:
        """Evaluate f = max over the balls of (r^2 - |p - c|^2) / 2r, quadratic so that thin tubes survive sampling."""
        c = torch.as_tensor(self.path, dtype=torch.float32, device=p.device)
        r = torch.as_tensor(self.radii, dtype=torch.float32, device=p.device)
        flat = p.reshape(-1, 3)
        d2 = (flat * flat).sum(1, keepdim=True) - 2 * flat @ c.T + (c * c).sum(1)
        f = ((r * r - d2) / (2 * r)).amax(1)
        return f.view(p.shape[:-1])


Shape = Star | Block | Loft | Tube
