"""Compact structures: organs with walls, cores and contents, pairs, heart chambers, lesions, cells."""

import numpy as np

from synthfm_env.synthesis.anatomy.bezier import Loft
from synthfm_env.synthesis.anatomy.placement import Scene
from synthfm_env.synthesis.anatomy.shapes import Array, Shape, Star, log_uniform, rotation
from synthfm_env.synthesis.anatomy.tubes import tree


def lump(scene: Scene, radius: float) -> Shape:
    """Return a star or a Bezier loft of about this radius."""
    if scene.rng.random() < 0.5:
        return Star.draw(scene.rng, radius, bumpy=scene.rng.uniform(0.05, 0.5))
    return Loft.draw(scene.rng, radius * 1.2)


def layered(scene: Scene, shape: Shape, centre: Array, radius: float, kind: str) -> float | None:
    """Paint a shape that may have a capsule, a wall, a core, or uneven contents; return its level, None if unseen.

    The parts are structures of their own, or the whole is one structure, inside and all.
    """
    rng, palette = scene.rng, scene.palette
    found = scene.find(shape, centre)
    if not found:
        return None
    level, texture, width = palette.any(rng), palette.amplitude(rng), scene.width()
    look = rng.choice(["plain", "capsule", "wall", "core", "mixed"], p=[0.5, 0.1, 0.14, 0.1, 0.16])
    if look == "plain":
        scene.stamp(found, level, scene.name(kind), texture=texture, width=width)
    elif look == "mixed":  # what lies behind shows through, so that the inside is anything but even
        label, inset = scene.name(kind), 0.0
        if rng.random() < 0.6:
            scene.stamp(found, palette.any(rng), label, texture=texture, width=width)
            inset = rng.uniform(1.5, max(2.0, 0.12 * radius))
        scene.stamp(found, level, label, texture=2 * texture, width=width, inset=inset, opacity=rng.uniform(0.3, 0.8))
        contents(scene, centre, radius, label)
    else:
        thick = {"capsule": rng.uniform(1.0, 2.5), "wall": rng.uniform(0.12, 0.35) * radius}.get(
            str(look), rng.uniform(0.35, 0.6) * radius
        )
        whole = rng.random() < 0.5
        outer = scene.name(kind if whole else f"{kind} wall")
        inner = outer if whole else scene.name(f"{kind} lumen")
        scene.stamp(found, palette.any(rng), outer, texture=texture, width=width)
        scene.stamp(found, level, inner, width=width, inset=max(1.0, thick))
    return level


def contents(scene: Scene, centre: Array, radius: float, label: int) -> None:
    """Put unnamed lumps inside an organ: they belong to it."""
    rng = scene.rng
    for _ in range(int(rng.integers(0, 5))):
        at = centre + rng.normal(0, 0.3, 3) * radius
        small = Star.draw(rng, radius * rng.uniform(0.1, 0.3))
        scene.paint(small, at, scene.palette.any(rng), label)


def organ(scene: Scene) -> None:
    """Draw one organ of any size, perhaps with lesions or vessels in it."""
    rng = scene.rng
    radius = scene.size * log_uniform(rng, scene.smallest_organ, 0.46)
    centre = scene.place(radius)
    level = layered(scene, lump(scene, radius), centre, radius, "organ")
    if level is None:
        return
    if radius > 0.12 * scene.size and rng.random() < 0.3:
        focal(scene, centre, 0.45 * radius, level, most=min(0.08 * scene.size, 0.5 * radius))
    if radius > 0.15 * scene.size and rng.random() < 0.35:
        tree(scene, centre, radius, scene.palette.soft(rng, level), None)


def bezier(scene: Scene) -> None:
    """Draw a few plain Bezier lofts: SynthFM's own objects."""
    rng = scene.rng
    for _ in range(int(rng.integers(1, 5))):
        radius = scene.size * log_uniform(rng, 0.04, 0.35)
        centre = scene.place(radius)
        scene.paint(Loft.draw(rng, radius * 1.2), centre, scene.palette.soft(rng), scene.name("bezier organ"))


def pair(scene: Scene) -> None:
    """Draw the same organ twice, mirrored about a sagittal plane: kidneys, ventricles, glands."""
    rng = scene.rng
    radius = scene.size * log_uniform(rng, 0.05, 0.2)
    mirrored(scene, radius, radius * rng.uniform(0.9, 2.5), scene.palette.any(rng), "paired organ", 0.4)


def lungs(scene: Scene) -> None:
    """Draw two big organs full of gas, with vessels in them."""
    rng = scene.rng
    radius = scene.size * rng.uniform(0.14, 0.26)
    gas = scene.palette.gas(rng)
    for centre in mirrored(scene, radius, radius * rng.uniform(1.0, 1.5), gas, "lung", 0.2):
        tree(scene, centre, radius, scene.palette.soft(rng), None)


def mirrored(scene: Scene, radius: float, apart: float, level: float, kind: str, bumpy: float) -> list[Array]:
    """Paint a star and its mirror image, and return their centres."""
    rng = scene.rng
    middle = scene.place(radius, 0.3)
    star = Star.draw(rng, radius, bumpy=rng.uniform(0.05, bumpy), elongation=2.2)
    texture, width = scene.palette.amplitude(rng), scene.width()
    side, uneven = np.array([0, 0, apart]), np.array([0, rng.normal(0, 0.04), 0]) * scene.size
    centres = [middle - side, middle + side + uneven]
    for shape, centre in zip((star, star.mirrored()), centres, strict=True):
        scene.paint(shape, centre, level, scene.name(kind), texture=texture, width=width)
    return centres


def shelled(scene: Scene) -> None:
    """Draw a bright or dark shell around uneven contents, all of it one structure: a fetal head, a cyst, an egg."""
    rng, palette = scene.rng, scene.palette
    radius = scene.size * log_uniform(rng, 0.1, 0.45)
    centre = scene.place(radius, 0.2)
    shape = Star.draw(rng, radius, 0.08, 1.4)
    if rng.random() < 0.3:  # it lies in fluid
        scene.paint(shape.scaled(rng.uniform(1.1, 1.6)), centre, palette.fluid(rng), None)
    found = scene.find(shape, centre)
    if not found:
        return
    label, texture = scene.name("shelled organ"), palette.amplitude(rng)
    shell = palette.bone(rng) if rng.random() < 0.7 else palette.any(rng)
    scene.stamp(found, shell, label, texture=texture, width=1.5)
    inset = max(1.2, radius * rng.uniform(0.03, 0.14))
    scene.stamp(found, palette.soft(rng), label, texture=3 * texture, inset=inset, opacity=rng.uniform(0.4, 1.0))
    contents(scene, centre, radius, label)


def chamber(scene: Scene) -> None:
    """Draw a ring of muscle around one to four chambers, as in the heart."""
    rng, palette = scene.rng, scene.palette
    radius = scene.size * log_uniform(rng, 0.1, 0.36)
    centre = scene.place(radius, 0.25)
    found = scene.find(Star.draw(rng, radius, 0.1, 1.5), centre)
    if not found:
        return
    muscle, blood = palette.soft(rng), palette.fluid(rng) if rng.random() < 0.5 else palette.any(rng)
    texture, width = palette.amplitude(rng), scene.width()
    scene.stamp(found, muscle, scene.name("muscle ring"), texture=texture, width=width)
    if rng.random() < 0.5:
        scene.stamp(found, blood, scene.name("chamber"), width=width, inset=radius * rng.uniform(0.15, 0.35))
        return
    axes = rotation(rng, 1.0)
    count = int(rng.integers(2, 5))
    for k in range(count):
        angle = 2 * np.pi * k / count
        at = centre + axes @ np.array([0.0, np.sin(angle), np.cos(angle)]) * 0.48 * radius
        shape = Star.draw(rng, radius * rng.uniform(0.25, 0.42), 0.2, 1.4)
        scene.paint(shape, at, palette.near(rng, blood), scene.name("chamber"), width=width)


def lesions(scene: Scene) -> None:
    """Draw small structures anywhere, down to three pixels across."""
    spread = 0.25 * scene.size
    focal(scene, scene.place(spread), spread, None, most=0.07 * scene.size)


def focal(scene: Scene, centre: Array, spread: float, level: float | None, most: float) -> None:
    """Draw a few lesions alike about a centre, each a structure."""
    rng = scene.rng
    mean, texture = scene.palette.soft(rng, level, least=0.15), scene.palette.amplitude(rng)
    for _ in range(int(rng.integers(1, 6))):
        radius = log_uniform(rng, 1.5, max(2.0, most))
        at = centre + rng.normal(0, 1.0, 3) * spread
        shape = Star.draw(rng, radius, 0.3, 1.5)
        if scene.extent.min() < 2 * radius:
            at[scene.extent < 2 * radius] = 0.5 * scene.extent.min()
        scene.paint(shape, at, mean, scene.name("lesion"), texture=texture, width=min(scene.width(), 0.8 * radius))


def cells(scene: Scene) -> None:
    """Draw many round structures of one kind: nuclei, cysts, follicles."""
    rng, palette = scene.rng, scene.palette
    radius = scene.size * log_uniform(rng, 0.02, 0.12)
    mean, width = palette.soft(rng, least=0.1), scene.width()
    core = palette.soft(rng, mean, least=0.1) if rng.random() < 0.3 else None
    for _ in range(int(rng.integers(6, 28))):
        r = radius * log_uniform(rng, 0.7, 1.5)
        centre = scene.place(r, 0.0)
        found = scene.find(Star.draw(rng, r, 0.15, 1.5), centre)
        if found:
            label, thin = scene.name("cell"), min(width, 0.8 * r)
            scene.stamp(found, palette.near(rng, mean, 0.05), label, width=thin)
            if core is not None:
                scene.stamp(found, core, label, width=thin, inset=0.3 * r)
