"""Reads and validates the generator's recipes: a name, a TOML file, a dict or a ``GeneratorRecipe``."""

import tomllib
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from synthfm_env.errors import InputError, unknown_name
from synthfm_env.printable import shown
from synthfm_env.text_files import read_toml

Style = Literal["CT", "MR", "US", "other"]
Group = Literal[
    "organ", "bezier", "pair", "lungs", "chamber", "shelled", "tube", "bowel", "vessels", "spine", "long bone",
    "ribs", "lesions", "cells",
]  # fmt: skip
Range = tuple[float, float]
Probability = Annotated[float, Field(ge=0, le=1)]


def _ordered(pair: Range) -> Range:
    if not 0 < pair[0] <= pair[1]:
        raise ValueError(f"expected 0 < low <= high, got {list(pair)}")
    return pair


LogRange = Annotated[Range, AfterValidator(_ordered)]


class GeneratorRecipe(BaseModel):
    """Settings of the generator. Ranges are log-uniform; lengths are in pixels unless stated otherwise.

    Attributes:
        name: in a volume's metadata and case id; letters, digits, dot, dash, underscore.
        styles: weight of each imaging style.
        shapes: whether to draw organs, tubes, spines (the shape-aware module).
        groups: probability of each group of structures; the first group fills up the count.
        clusters: probability of SynthMorph clusters behind the organs (the boundary-aware module).
        cluster_targets: probability that these clusters are structures too.
        cluster_count: lowest and highest number of clusters.
        canvas: "tissue" for clusters of tissue intensities with organs in front of them; "synthfm" for SynthFM's 2D
            set-up, in which cluster images are boundary-aware (see ``boundary_aware``) without shapes and lattice noise
            is Perlin's.
        background: "anatomy" for a body with fat, muscle or skull; "phantom" for black or one disc.
        body: probability of a body outline with air around it.
        targets: lowest and highest number of structures in a volume; fewer if a small or crowded volume has no room.
        smallest: structures of fewer voxels are dropped.
        thickness: slice thickness over pixel size.
        isotropic: probability that slice thickness equals pixel size.
        oblique: probability that the body's long axis is y or x of the array (sagittal or coronal slices).
        contrast: relative contrast of a structure to its background, of either sign.
        visible: structures with less contrast at their border than this share of the display window are dropped.
        sharpness: width of borders in pixels.
        warp: amplitude of the smooth deformation over the smaller of H and W.
        noise: factor on the strength of each style's noise.
        invert: probability of inverted contrast (not in CT).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = "custom"
    styles: dict[Style, Annotated[float, Field(ge=0)]] = {"CT": 1, "MR": 1, "US": 1, "other": 0.6}
    shapes: bool = True
    groups: dict[Group, Probability] = {
        "organ": 1.0,
        "bezier": 0.5,
        "lungs": 0.15,
        "pair": 0.4,
        "chamber": 0.3,
        "shelled": 0.3,
        "bowel": 0.25,
        "tube": 0.6,
        "vessels": 0.3,
        "long bone": 0.2,
        "spine": 0.25,
        "ribs": 0.15,
        "cells": 0.12,
        "lesions": 0.5,
    }
    clusters: Probability = 0.7
    cluster_targets: Probability = 0.5
    cluster_count: tuple[Annotated[int, Field(ge=2)], Annotated[int, Field(le=16)]] = (10, 15)
    canvas: Literal["tissue", "synthfm"] = "tissue"
    background: Literal["anatomy", "phantom"] = "anatomy"
    body: Probability = 0.6
    targets: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(le=1000)]] = (9, 20)
    smallest: Annotated[int, Field(ge=1)] = 12
    thickness: LogRange = (1.0, 8.0)
    isotropic: Probability = 0.4
    oblique: Probability = 0.35
    contrast: LogRange = (0.08, 1.4)
    visible: Annotated[float, Field(ge=0, lt=1)] = 0.025
    sharpness: LogRange = (0.7, 3.0)
    warp: LogRange = (0.005, 0.05)
    noise: LogRange = (0.5, 1.5)
    invert: Probability = 0.2

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not any(self.styles.values()):
            raise ValueError("styles: at least one needs a weight above 0")
        if not (self.shapes or self.clusters):
            raise ValueError("shapes is false and clusters is 0, so there is nothing to draw")
        if self.shapes and not self.groups:
            raise ValueError("groups: name at least one, or set shapes to false")
        for key in ("targets", "cluster_count"):
            low, high = getattr(self, key)
            if low > high:
                raise ValueError(f"{key}: expected low <= high, got {[low, high]}")
        if self.thickness[0] < 1 or self.thickness[1] > 16:
            raise ValueError(f"thickness: expected 1 to 16 times the pixel size, got {list(self.thickness)}")
        return self


@lru_cache
def _shipped() -> dict[str, dict[str, Any]]:
    return tomllib.loads(files("synthfm_env.synthesis").joinpath("recipes.toml").read_text("utf-8"))


def list_recipes() -> list[str]:
    """Return the names of the recipes that ship with the package.

    Example:
        >>> "ct" in list_recipes()
        True
    """
    return sorted(_shipped())


def load_recipe(source: "str | Path | dict[str, Any] | GeneratorRecipe") -> GeneratorRecipe:
    """Return a validated recipe.

    Args:
        source: a packaged recipe's name, the path of a TOML file, a dict of fields, or a ``GeneratorRecipe``. A file or
            dict with ``extends = "name"`` contains only the fields that differ from that recipe.

    Raises:
        InputError: the name or file does not exist, or a key or value is invalid.

    Example:
        >>> load_recipe({"extends": "ct", "contrast": [0.2, 0.6]}).contrast
        (0.2, 0.6)
    """
    if isinstance(source, GeneratorRecipe):
        return source
    if isinstance(source, dict):
        return _validated(dict(source), "recipe")
    if not isinstance(source, str | Path):
        raise InputError(f"recipe is {shown(source)}: expected a name, a TOML file or a dict")
    if str(source).endswith(".toml"):
        path = Path(source)
        return _validated({"name": path.stem, **read_toml(path, f"recipe {path}")}, f"recipe {path}")
    if str(source) not in _shipped():
        raise unknown_name("recipe", str(source), _shipped())
    return _validated({"name": str(source), **_shipped()[str(source)]}, f"recipe {str(source)!r}")


def _validated(fields: dict[str, Any], where: str) -> GeneratorRecipe:
    """Return a recipe of checked fields; ``where`` begins the message of an error."""
    for key in fields:
        if not isinstance(key, str):
            raise InputError(f"{where}: {unknown_name('key', key, GeneratorRecipe.model_fields)}")
    base = fields.pop("extends", None)
    if base is not None:
        if not isinstance(base, str) or base not in _shipped():
            raise InputError(f"{where}: extends: {unknown_name('recipe', str(base), _shipped())}")
        fields = {**load_recipe(base).model_dump(), "name": "custom", **fields}
    try:
        return GeneratorRecipe(**fields)
    except ValidationError as error:
        raise InputError(f"{where}: {_first_problem(error)}") from error


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    place = ".".join(str(part) for part in problem["loc"] if part != "[key]")
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        return str(unknown_name("key", place, GeneratorRecipe.model_fields))
    return f"{place}: {message}, got {problem['input']!r}" if place else message
