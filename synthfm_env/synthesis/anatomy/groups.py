"""Which groups of structures a volume holds: the shape-aware module's top."""

from collections.abc import Callable

from synthfm_env.synthesis.anatomy import bones, organs, tubes
from synthfm_env.synthesis.anatomy.placement import Scene
from synthfm_env.synthesis.recipe import Group, Recipe, Style

# In the order in which they are drawn: what comes later lies in front, so large before small.
GROUPS: dict[Group, Callable[[Scene], None]] = {
    "lungs": organs.lungs,
    "organ": organs.organ,
    "bezier": organs.bezier,
    "chamber": organs.chamber,
    "shelled": organs.shelled,
    "pair": organs.pair,
    "bowel": tubes.bowel,
    "long bone": bones.long_bone,
    "spine": bones.spine,
    "ribs": bones.ribs,
    "tube": tubes.tube,
    "vessels": tubes.vessels,
    "cells": organs.cells,
    "lesions": organs.lesions,
}


# What a device is used for: these groups appear so many times as often as the recipe says.
_FITTING: dict[Style, dict[Group, float]] = {
    "CT": {"shelled": 0.6},
    "MR": {},
    "US": {"shelled": 2.0, "chamber": 1.7, "spine": 0.3, "ribs": 0.3, "bowel": 0.5, "lungs": 0.5, "cells": 0.5},
    "other": {"cells": 4.0, "spine": 0.3, "ribs": 0.3, "lungs": 0.3, "long bone": 0.5},
}


def populate(scene: Scene, recipe: Recipe, count: int) -> None:
    """Draw the groups by their probabilities, then fill up until about ``count`` structures can be seen."""
    rng = scene.rng
    main, fitting = next(iter(recipe.groups)), _FITTING[scene.palette.style]
    for group, draw in GROUPS.items():
        if group == main:
            for _ in range(int(rng.integers(1, 5))):
                draw(scene)
        elif rng.random() < recipe.groups.get(group, 0.0) * fitting.get(group, 1.0) and len(scene.seen) < count:
            draw(scene)
    top_up(scene, recipe, count)


def top_up(scene: Scene, recipe: Recipe, count: int) -> None:
    """Draw more of the groups that give one or few structures, until ``count`` can be seen."""
    small: list[Group] = [g for g in ("tube", "lesions", "bezier") if recipe.groups.get(g, 0.0) > 0]
    choice = [next(iter(recipe.groups)), *small]
    for _ in range(2 * count):
        if len(scene.seen) >= count:
            return
        GROUPS[choice[int(scene.rng.integers(len(choice)))]](scene)
