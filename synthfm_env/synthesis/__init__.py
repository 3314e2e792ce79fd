"""The SynthFM-3D generator: labelled volumes with no real image or label in them."""

from synthfm_env.synthesis.contact_sheets import checked_sheet, contact_sheet, preview_volumes
from synthfm_env.synthesis.generator import GENERATOR_VERSION, SynthFM3D
from synthfm_env.synthesis.recipe import Recipe, list_recipes, load_recipe

__all__ = [
    "GENERATOR_VERSION",
    "Recipe",
    "SynthFM3D",
    "checked_sheet",
    "contact_sheet",
    "list_recipes",
    "load_recipe",
    "preview_volumes",
]
