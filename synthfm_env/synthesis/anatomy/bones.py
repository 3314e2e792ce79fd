"""Draws bones: a spine with canal and cord, long bones, ribs."""

import math

import numpy as np

from synthfm_env.synthesis.anatomy.placement import Placement
from synthfm_env.synthesis.anatomy.shapes import Array, Block, Tube, log_uniform

_MOST_VERTEBRAE = 12


def spine(placement: Placement) -> None:
    """Draw vertebrae with discs, processes, canal and cord, along the body and gently curved."""
    rng, extent, intensities = placement.rng, placement.extent, placement.intensities
    # Sizes, the direction of the back, and the curved axis.
    r = placement.size * log_uniform(rng, 0.05, 0.22)
    pitch = r * rng.uniform(1.1, 1.9)
    half = pitch * (1 - rng.uniform(0.12, 0.3)) / 2
    face = rng.normal(0, 0.3) + (math.pi if rng.random() < 0.5 else 0.0)
    back = np.array([0, math.cos(face), math.sin(face)])
    side = np.array([0, -math.sin(face), math.cos(face)])
    base = np.array([0, *(extent[1:] * rng.uniform(0.3, 0.7, 2))])
    bow, phase = rng.normal(0, 0.1, 2) * placement.size, rng.uniform(0, 2 * math.pi)
    frame = np.stack([np.array([1.0, 0, 0]), back, side], 1)

    def at(z: float) -> Array:
        arc = math.sin(z / max(extent[0], placement.size) * math.pi + phase)
        return np.asarray(base + np.array([z, 0, 0]) + back * bow[0] * arc + side * bow[1] * arc)

    # Intensities and the shape of the vertebrae.
    compact, marrow, cartilage = intensities.bone(rng), intensities.any(rng), intensities.soft(rng)
    texture, canal = 1.5 * intensities.amplitude(rng), 0.42 * r * rng.uniform(0.8, 1.2)
    low = -rng.uniform(0, pitch)
    count = min(_MOST_VERTEBRAE, math.ceil((extent[0] - low) / pitch) + 1)
    edge, waist = rng.uniform(3, 6), rng.uniform(0, 0.25)
    span = np.linspace(-pitch, extent[0] + pitch, 7)
    # Discs: one column, which the vertebrae then cover in part.
    column = np.stack([at(z) for z in span])
    disc = placement.name("disc") if rng.random() < 0.3 else None
    _along(placement, column, 0.85 * r, cartilage, disc, texture)
    for z in low + pitch * np.arange(count):
        body = Block(np.array([half, r * 0.75, r]), frame, edge, waist)
        _vertebra(placement, at(z), frame, r, canal, (compact, marrow), texture, body)
    # Canal with fluid, and the cord in it.
    line = column + back * (0.75 * r + canal)
    fluid = intensities.fluid(rng) if rng.random() < 0.6 else intensities.soft(rng)
    _along(placement, line, 0.95 * canal, fluid, 0, texture)
    _along(placement, line, canal * rng.uniform(0.5, 0.7), intensities.soft(rng), placement.name("cord"), texture)


def _along(placement: Placement, line: Array, radius: float, level: float, label: int | None, texture: float) -> None:
    """Paint a tube along control points."""
    middle = line.mean(0)
    placement.paint(Tube.along(line - middle, (radius, radius)), middle, level, label, texture=texture, width=1.2)


def _vertebra(
    placement: Placement,
    centre: Array,
    frame: Array,
    r: float,
    canal: float,
    levels: tuple[float, float],
    texture: float,
    body: Block,
) -> None:
    """Paint the arch with its processes, then the body with marrow inside, as one structure."""
    compact, marrow = levels
    back, side = frame[:, 1], frame[:, 2]
    label, arch = placement.name("vertebra"), back * (0.75 * r + canal)
    down = np.array([0.3 * r, 0, 0])
    tips = [(back * canal, back * 1.5 * r - down), *((side * s * canal, side * s * 1.5 * r) for s in (-1, 1))]
    angle = np.arange(10)[:, None] * (2 * math.pi / 10)
    ring = Tube(arch + canal * (np.cos(angle) * back + np.sin(angle) * side), np.full(10, 0.3 * r))
    arms = [ring, *(Tube.along(arch + np.stack(tip), (0.22 * r, 0.13 * r)) for tip in tips)]
    posterior = Tube(np.concatenate([a.path for a in arms]), np.concatenate([a.radii for a in arms]))
    placement.paint(posterior, centre, compact, label, texture=texture, width=1.2)
    located = placement.locate(body, centre)
    if located:
        placement.stamp(located, compact, label, texture=texture, width=1.2)
        placement.stamp(located, marrow, label, texture=texture, width=1.5, inset=max(1.0, 0.1 * r))


def long_bone(placement: Placement) -> None:
    """Draw a shaft: a compact ring around marrow, one structure."""
    rng, length = placement.rng, placement.span[0]
    radius = placement.size * log_uniform(rng, 0.03, 0.12)
    centre = placement.place(radius, 0.15)
    tilt, bow = rng.normal(0, 0.3, 2) * length, rng.normal(0, 0.1, 2) * placement.size
    control = np.stack([[-0.7 * length, *-tilt], [0, *bow], [0.7 * length, *tilt]])
    shaft, label = Tube.along(control, (radius, radius * rng.uniform(0.7, 1.4))), placement.name("bone")
    placement.paint(shaft, centre, placement.intensities.bone(rng), label, width=1.2)
    placement.paint(shaft.scaled(rng.uniform(0.4, 0.8)), centre, placement.intensities.fat(rng), label, width=1.5)


def ribs(placement: Placement) -> None:
    """Draw curved thin bones around the middle, each a structure."""
    rng, extent = placement.rng, placement.extent
    middle = extent * rng.uniform(0.4, 0.6, 3)
    big = placement.span[1:] * rng.uniform(0.32, 0.46, 2)
    radius = placement.size * rng.uniform(0.012, 0.025)
    compact, drop = placement.intensities.bone(rng), placement.size * rng.uniform(0.1, 0.5)
    for k in range(int(rng.integers(3, 8))):
        start, span = rng.uniform(0, 2 * math.pi), rng.uniform(0.6, 1.6)
        angle = np.linspace(start, start + span, 4)
        z = rng.uniform(0, extent[0]) + drop * np.linspace(-0.5, 0.5, 4) * (-1) ** k
        control = np.stack([z - middle[0], big[0] * np.sin(angle), big[1] * np.cos(angle)], 1)
        placement.paint(Tube.along(control, (radius, radius)), middle, compact, placement.name("rib"), width=1.0)
