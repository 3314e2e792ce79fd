"""Chooses the groups of structures that a volume contains (SynthFM's shape-aware module)."""

from collections.abc import Callable

from synthfm_env.synthesis.anatomy import bones, organs, tubes
from synthfm_env.synthesis.anatomy.placement import Placement
from synthfm_env.synthesis.recipe import GeneratorRecipe, Group, Style

# In drawing order: later groups cover earlier ones, so large structures come first.
GROUPS: dict[Group, Callable[[Placement], None]] = {
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

# Factors on the recipe's probabilities, for the structures that devices of each style typically show.
_FITTING: dict[Style, dict[Group, float]] = {
    "CT": {"shelled": 0.6},
    "MR": {},
    "US": {"shelled": 2.0, "chamber": 1.7, "spine": 0.3, "ribs": 0.3, "bowel": 0.5, "lungs": 0.5, "cells": 0.5},
    "other": {"cells": 4.0, "spine": 0.3, "ribs": 0.3, "lungs": 0.3, "long bone": 0.5},
}


def populate(placement: Placement, recipe: GeneratorRecipe, count: int) -> None:
    """Draw groups of structures on a canvas.

    Args:
        placement: draws on its canvas.
        recipe: contains the probability of each group.
        count: approximate number of visible structures.
    """
    rng = placement.rng
    main, fitting = next(iter(recipe.groups)), _FITTING[placement.intensities.style]
    for group, draw in GROUPS.items():
        if group == main:
            for _ in range(int(rng.integers(1, 5))):
                draw(placement)
        elif rng.random() < recipe.groups.get(group, 0.0) * fitting.get(group, 1.0) and len(placement.visible) < count:
            draw(placement)
    top_up(placement, recipe, count)


def top_up(placement: Placement, recipe: GeneratorRecipe, count: int) -> None:
    """Draw more groups of one or few structures, until ``count`` structures are visible."""
    small: list[Group] = [g for g in ("tube", "lesions", "bezier") if recipe.groups.get(g, 0.0) > 0]
    choice = [next(iter(recipe.groups)), *small]
    for _ in range(2 * count):
        if len(placement.visible) >= count:
            return
        GROUPS[choice[int(placement.rng.integers(len(choice)))]](placement)
