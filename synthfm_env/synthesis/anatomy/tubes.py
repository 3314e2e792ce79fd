"""Long structures along Bezier curves: vessels that branch, ducts, bowel."""

import numpy as np

from synthfm_env.synthesis.anatomy.placement import Scene
from synthfm_env.synthesis.anatomy.shapes import Array, Tube, log_uniform


def tree(scene: Scene, centre: Array, radius: float, level: float, label: int | None) -> None:
    """Paint a trunk that forks about a centre, every branch thinner than what it springs from."""
    rng, texture = scene.rng, scene.palette.amplitude(scene.rng)
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
        scene.paint(Tube.along(control, (thick, thin)), at, level, label, texture=texture, width=1.2)
        for _ in range(2):
            turned = way + rng.normal(0, 0.6, 3)
            twigs.append((at + control[-1], turned / np.linalg.norm(turned), thin))


def vessels(scene: Scene) -> None:
    """Draw a branching vessel of its own, one structure."""
    rng = scene.rng
    radius = scene.size * rng.uniform(0.15, 0.4)
    tree(scene, scene.place(radius, 0.25), radius, scene.palette.any(rng), scene.name("vessel tree"))


def tube(scene: Scene) -> None:
    """Draw a vessel, duct, trachea or cord: solid, or with a wall and contents."""
    rng = scene.rng
    radius = scene.size * log_uniform(rng, 0.012, 0.08)
    count = int(rng.integers(3, 8))
    control = rng.normal(0, 0.25, (count, 3)) * scene.size
    if rng.random() < 0.6:  # along the body
        control[:, 1:] *= 0.4
        control[:, 0] += np.linspace(-0.7, 0.7, count) * scene.span[0]
    control -= control.mean(0)
    shape = Tube.along(control, (radius, radius * rng.uniform(0.6, 1.3)))
    _hollow(scene, shape, scene.place(radius, 0.2), "tube", rng.random() < 0.4 and radius > 3)


def bowel(scene: Scene) -> None:
    """Draw a winding tube with pouches, its wall around gas, fluid or a mixture."""
    rng = scene.rng
    radius = scene.size * log_uniform(rng, 0.03, 0.09)
    turns = int(rng.integers(5, 10))
    centre = scene.place(4 * radius, 0.25)
    control = np.cumsum(rng.normal(0, 3.5, (turns, 3)), 0) * radius
    control[:, 0] *= 0.6
    shape = Tube.along(control - control.mean(0), (radius, radius), wavy=rng.uniform(0, 0.3))
    _hollow(scene, shape, centre, "bowel", rng.random() < 0.75)


def _hollow(scene: Scene, shape: Tube, centre: Array, kind: str, wall: bool) -> None:
    rng, palette = scene.rng, scene.palette
    label, level, width = scene.name(kind), palette.any(rng), scene.width()
    if not wall:
        scene.paint(shape, centre, level, label, width=width)
        return
    scene.paint(shape, centre, palette.soft(rng), label, width=width)
    inside = palette.gas(rng) if rng.random() < 0.4 else level
    lumen = label if rng.random() < 0.6 else scene.name(f"{kind} lumen")
    scene.paint(shape.scaled(rng.uniform(0.55, 0.85)), centre, inside, lumen, width=width)
