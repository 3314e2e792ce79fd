"""Generates SynthFM-3D volumes: labelled volumes that contain no real image and no real label."""

import warnings
from typing import Any

from synthfm_env.synthesis.contact_sheets import checked_sheet, contact_sheet, preview_volumes
from synthfm_env.synthesis.generator import GENERATOR_VERSION, SynthFM3D
from synthfm_env.synthesis.recipe import GeneratorRecipe, list_recipes, load_recipe

__all__ = [
    "GENERATOR_VERSION",
    "GeneratorRecipe",
    "SynthFM3D",
    "checked_sheet",
    "contact_sheet",
    "list_recipes",
    "load_recipe",
    "preview_volumes",
]


def __getattr__(name: str) -> Any:
    if name == "Recipe":  # its name in version 0.1
        warnings.warn("synthfm_env.synthesis.Recipe is now GeneratorRecipe", DeprecationWarning, stacklevel=2)
        return GeneratorRecipe
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
