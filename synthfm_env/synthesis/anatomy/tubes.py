"""Draws long structures along Bezier curves: branching vessels, ducts, bowel."""

import numpy as np

from synthfm_env.synthesis.anatomy.placement import Placement
from synthfm_env.synthesis.anatomy.shapes import Array, Tube, log_uniform


def tree(placement: Placement, centre: Array, radius: float, level: float, label: int | None) -> None:
    """Paint a trunk that forks around a centre; every branch is thinner than the one before."""
    rng, texture = placement.rng, placement.intensities.amplitude(placement.rng)
    start = centre + rng.normal(0, 0.6, 3) * radius
    heading = centre - start
    heading /= np.linalg.norm(heading) + 1e-6
    twigs = [(start, heading, max(1.2, radius * rng.uniform(0.04, 0.13)))]
    for _ in range(int(rng.integers(3, 10))):
        at, way, thick = twigs.pop(0)
        length = radius * rng.uniform(0.4, 1.0)
        bend = rng.normal(0, 0.25, (2, 3)) * length
        control = np.stack([0 * way, way * length / 3 + bend[0], way * length * 2 / 3 + bend[1], way * length])
        thin = max(0.9, 0.72 * thick)
        placement.paint(Tube.along(control, (thick, thin)), at, level, label, texture=texture, width=1.2)
        for _ in range(2):
            turned = way + rng.normal(0, 0.6, 3)
            twigs.append((at + control[-1], turned / np.linalg.norm(turned), thin))


def vessels(placement: Placement) -> None:
    """Draw a branching vessel outside organs, as one structure."""
    rng = placement.rng
    radius = placement.size * rng.uniform(0.15, 0.4)
    tree(
        placement, placement.place(radius, 0.25), radius, placement.intensities.any(rng), placement.name("vessel tree")
    )


def tube(placement: Placement) -> None:
    """Draw a vessel, duct, trachea or cord: solid, or with a wall and contents."""
    rng = placement.rng
    radius = placement.size * log_uniform(rng, 0.012, 0.08)
    count = int(rng.integers(3, 8))
    control = rng.normal(0, 0.25, (count, 3)) * placement.size
    if rng.random() < 0.6:  # along the body
        control[:, 1:] *= 0.4
        control[:, 0] += np.linspace(-0.7, 0.7, count) * placement.span[0]
    control -= control.mean(0)
    shape = Tube.along(control, (radius, radius * rng.uniform(0.6, 1.3)))
    _hollow(placement, shape, placement.place(radius, 0.2), "tube", rng.random() < 0.4 and radius > 3)


def bowel(placement: Placement) -> None:
    """Draw a winding tube with pouches, its wall around gas, fluid or a mixture."""
    rng = placement.rng
    radius = placement.size * log_uniform(rng, 0.03, 0.09)
    turns = int(rng.integers(5, 10))
    centre = placement.place(4 * radius, 0.25)
    control = np.cumsum(rng.normal(0, 3.5, (turns, 3)), 0) * radius
    control[:, 0] *= 0.6
    shape = Tube.along(control - control.mean(0), (radius, radius), wavy=rng.uniform(0, 0.3))
    _hollow(placement, shape, centre, "bowel", rng.random() < 0.75)


def _hollow(placement: Placement, shape: Tube, centre: Array, kind: str, wall: bool) -> None:
    """Paint a tube, solid or as a wall around contents, as one structure or two."""
    rng, intensities = placement.rng, placement.intensities
    label, level, width = placement.name(kind), intensities.any(rng), placement.width()
    if not wall:
        placement.paint(shape, centre, level, label, width=width)
        return
    placement.paint(shape, centre, intensities.soft(rng), label, width=width)
    inside = intensities.gas(rng) if rng.random() < 0.4 else level
    lumen = label if rng.random() < 0.6 else placement.name(f"{kind} lumen")
    placement.paint(shape.scaled(rng.uniform(0.55, 0.85)), centre, inside, lumen, width=width)
