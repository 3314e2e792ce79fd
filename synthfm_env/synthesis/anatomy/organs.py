"""Draws compact structures: organs with walls, cores and contents, pairs, heart chambers, lesions, cells."""

import numpy as np

from synthfm_env.synthesis.anatomy.bezier import Loft
from synthfm_env.synthesis.anatomy.placement import Placement
from synthfm_env.synthesis.anatomy.shapes import Array, Shape, Star, log_uniform, rotation
from synthfm_env.synthesis.anatomy.tubes import tree


def lump(placement: Placement, radius: float) -> Shape:
    """Draw a star or a Bezier loft of about this radius in pixels."""
    if placement.rng.random() < 0.5:
        return Star.draw(placement.rng, radius, bumpy=placement.rng.uniform(0.05, 0.5))
    return Loft.draw(placement.rng, radius * 1.2)


def layered(placement: Placement, shape: Shape, centre: Array, radius: float, kind: str) -> float | None:
    """Paint a shape, plain or with a capsule, a wall, a core or mixed contents.

    Wall and lumen are two structures or one, at random.

    Returns:
        Intensity of the contents; None if the shape is outside the image.
    """
    rng, intensities = placement.rng, placement.intensities
    located = placement.locate(shape, centre)
    if not located:
        return None
    level, texture, width = intensities.any(rng), intensities.amplitude(rng), placement.width()
    # Plain: one intensity.
    look = rng.choice(["plain", "capsule", "wall", "core", "mixed"], p=[0.5, 0.1, 0.14, 0.1, 0.16])
    if look == "plain":
        placement.stamp(located, level, placement.name(kind), texture=texture, width=width)
    # Mixed: translucent contents, perhaps inside an opaque wall.
    elif look == "mixed":
        label, inset = placement.name(kind), 0.0
        if rng.random() < 0.6:
            placement.stamp(located, intensities.any(rng), label, texture=texture, width=width)
            inset = rng.uniform(1.5, max(2.0, 0.12 * radius))
        placement.stamp(
            located, level, label, texture=2 * texture, width=width, inset=inset, opacity=rng.uniform(0.3, 0.8)
        )
        contents(placement, centre, radius, label)
    # Capsule, wall or core: contents inside an outer layer of different thickness.
    else:
        thickness = {"capsule": rng.uniform(1.0, 2.5), "wall": rng.uniform(0.12, 0.35) * radius}.get(
            str(look), rng.uniform(0.35, 0.6) * radius
        )
        one_structure = rng.random() < 0.5
        outer = placement.name(kind if one_structure else f"{kind} wall")
        inner = outer if one_structure else placement.name(f"{kind} lumen")
        placement.stamp(located, intensities.any(rng), outer, texture=texture, width=width)
        placement.stamp(located, level, inner, width=width, inset=max(1.0, thickness))
    return level


def contents(placement: Placement, centre: Array, radius: float, label: int) -> None:
    """Paint up to four small lumps inside an organ, as parts of its structure."""
    rng = placement.rng
    for _ in range(int(rng.integers(0, 5))):
        at = centre + rng.normal(0, 0.3, 3) * radius
        small = Star.draw(rng, radius * rng.uniform(0.1, 0.3))
        placement.paint(small, at, placement.intensities.any(rng), label)


def organ(placement: Placement) -> None:
    """Draw one organ of any size, perhaps with lesions or vessels in it."""
    rng = placement.rng
    radius = placement.size * log_uniform(rng, placement.smallest_organ, 0.46)
    centre = placement.place(radius)
    level = layered(placement, lump(placement, radius), centre, radius, "organ")
    if level is None:
        return
    if radius > 0.12 * placement.size and rng.random() < 0.3:
        similar_lesions(placement, centre, 0.45 * radius, level, most=min(0.08 * placement.size, 0.5 * radius))
    if radius > 0.15 * placement.size and rng.random() < 0.35:
        tree(placement, centre, radius, placement.intensities.soft(rng, level), None)


def bezier(placement: Placement) -> None:
    """Draw a few Bezier lofts, the objects of SynthFM."""
    rng = placement.rng
    for _ in range(int(rng.integers(1, 5))):
        radius = placement.size * log_uniform(rng, 0.04, 0.35)
        centre = placement.place(radius)
        placement.paint(
            Loft.draw(rng, radius * 1.2), centre, placement.intensities.soft(rng), placement.name("bezier organ")
        )


def pair(placement: Placement) -> None:
    """Draw the same organ twice, mirrored about a sagittal plane: kidneys, ventricles, glands."""
    rng = placement.rng
    radius = placement.size * log_uniform(rng, 0.05, 0.2)
    mirrored(placement, radius, radius * rng.uniform(0.9, 2.5), placement.intensities.any(rng), "paired organ", 0.4)


def lungs(placement: Placement) -> None:
    """Draw two large organs of gas, with vessels in them."""
    rng = placement.rng
    radius = placement.size * rng.uniform(0.14, 0.26)
    gas = placement.intensities.gas(rng)
    for centre in mirrored(placement, radius, radius * rng.uniform(1.0, 1.5), gas, "lung", 0.2):
        tree(placement, centre, radius, placement.intensities.soft(rng), None)


def mirrored(placement: Placement, radius: float, apart: float, level: float, kind: str, bumpy: float) -> list[Array]:
    """Paint a star and its mirror image, and return their centres.

    Args:
        placement: draws on its canvas.
        radius: in pixels.
        apart: distance of each centre from the mirror plane, in pixels.
        level: mean intensity.
        kind: name of both structures.
        bumpy: largest relative size of bulges.
    """
    rng = placement.rng
    middle = placement.place(radius, 0.3)
    star = Star.draw(rng, radius, bumpy=rng.uniform(0.05, bumpy), elongation=2.2)
    texture, width = placement.intensities.amplitude(rng), placement.width()
    side, uneven = np.array([0, 0, apart]), np.array([0, rng.normal(0, 0.04), 0]) * placement.size
    centres = [middle - side, middle + side + uneven]
    for shape, centre in zip((star, star.mirrored()), centres, strict=True):
        placement.paint(shape, centre, level, placement.name(kind), texture=texture, width=width)
    return centres


def shelled(placement: Placement) -> None:
    """Draw a shell around mixed contents as one structure: a fetal head, a cyst, an egg."""
    rng, intensities = placement.rng, placement.intensities
    radius = placement.size * log_uniform(rng, 0.1, 0.45)
    centre = placement.place(radius, 0.2)
    shape = Star.draw(rng, radius, 0.08, 1.4)
    if rng.random() < 0.3:  # surrounded by fluid
        placement.paint(shape.scaled(rng.uniform(1.1, 1.6)), centre, intensities.fluid(rng), None)
    located = placement.locate(shape, centre)
    if not located:
        return
    label, texture = placement.name("shelled organ"), intensities.amplitude(rng)
    shell = intensities.bone(rng) if rng.random() < 0.7 else intensities.any(rng)
    placement.stamp(located, shell, label, texture=texture, width=1.5)
    inset = max(1.2, radius * rng.uniform(0.03, 0.14))
    placement.stamp(
        located, intensities.soft(rng), label, texture=3 * texture, inset=inset, opacity=rng.uniform(0.4, 1.0)
    )
    contents(placement, centre, radius, label)


def chamber(placement: Placement) -> None:
    """Draw a ring of muscle around one to four chambers, as in the heart."""
    rng, intensities = placement.rng, placement.intensities
    radius = placement.size * log_uniform(rng, 0.1, 0.36)
    centre = placement.place(radius, 0.25)
    located = placement.locate(Star.draw(rng, radius, 0.1, 1.5), centre)
    if not located:
        return
    muscle, blood = intensities.soft(rng), intensities.fluid(rng) if rng.random() < 0.5 else intensities.any(rng)
    texture, width = intensities.amplitude(rng), placement.width()
    placement.stamp(located, muscle, placement.name("muscle ring"), texture=texture, width=width)
    if rng.random() < 0.5:
        placement.stamp(located, blood, placement.name("chamber"), width=width, inset=radius * rng.uniform(0.15, 0.35))
        return
    axes = rotation(rng, 1.0)
    count = int(rng.integers(2, 5))
    for k in range(count):
        angle = 2 * np.pi * k / count
        at = centre + axes @ np.array([0.0, np.sin(angle), np.cos(angle)]) * 0.48 * radius
        shape = Star.draw(rng, radius * rng.uniform(0.25, 0.42), 0.2, 1.4)
        placement.paint(shape, at, intensities.near(rng, blood), placement.name("chamber"), width=width)


def lesions(placement: Placement) -> None:
    """Draw small structures anywhere, down to three pixels across."""
    spread = 0.25 * placement.size
    similar_lesions(placement, placement.place(spread), spread, None, most=0.07 * placement.size)


def similar_lesions(placement: Placement, centre: Array, spread: float, level: float | None, most: float) -> None:
    """Draw a few similar lesions around a centre, each one a structure.

    Args:
        placement: draws on its canvas.
        centre: mean of the lesions' centres.
        spread: their standard deviation, in pixels.
        level: intensity of the surroundings, from which the lesions differ; None for any.
        most: largest radius in pixels.
    """
    rng = placement.rng
    mean, texture = placement.intensities.soft(rng, level, least=0.15), placement.intensities.amplitude(rng)
    for _ in range(int(rng.integers(1, 6))):
        radius = log_uniform(rng, 1.5, max(2.0, most))
        at = centre + rng.normal(0, 1.0, 3) * spread
        shape = Star.draw(rng, radius, 0.3, 1.5)
        if placement.extent.min() < 2 * radius:
            at[placement.extent < 2 * radius] = 0.5 * placement.extent.min()
        placement.paint(
            shape, at, mean, placement.name("lesion"), texture=texture, width=min(placement.width(), 0.8 * radius)
        )


def cells(placement: Placement) -> None:
    """Draw many round structures of one kind: nuclei, cysts, follicles."""
    rng, intensities = placement.rng, placement.intensities
    radius = placement.size * log_uniform(rng, 0.02, 0.12)
    mean, width = intensities.soft(rng, least=0.1), placement.width()
    core = intensities.soft(rng, mean, least=0.1) if rng.random() < 0.3 else None
    for _ in range(int(rng.integers(6, 28))):
        r = radius * log_uniform(rng, 0.7, 1.5)
        centre = placement.place(r, 0.0)
        located = placement.locate(Star.draw(rng, r, 0.15, 1.5), centre)
        if located:
            label, thin = placement.name("cell"), min(width, 0.8 * r)
            placement.stamp(located, intensities.near(rng, mean, 0.05), label, width=thin)
            if core is not None:
                placement.stamp(located, core, label, width=thin, inset=0.3 * r)
