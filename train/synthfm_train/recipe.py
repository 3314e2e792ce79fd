"""Recipes: what a training run does, as validated data."""

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from synthfm_env.errors import InputError, unknown_name
from synthfm_env.segmenters.sam2 import Architecture


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Data(_Strict):
    """Where clips come from: SynthFM-3D volumes, cut along all three planes."""

    recipe: str = "any"
    shape: tuple[int, int, int] = (32, 128, 128)
    zoom: tuple[float, float] = Field((0.35, 1.0), description="side of the in-plane window cut from a slice")
    min_pixels: int = Field(24, ge=1, description="smallest object on the prompted slice, at the model's resolution")


class Phase(_Strict):
    """One stretch of training with one kind of task, batch and learning rate."""

    kind: Literal["dense", "clicks"] = Field(
        "clicks", description="dense: contrastive pixel embeddings on the label map; clicks: prompted masks"
    )
    steps: int = Field(ge=1)
    image_size: int | None = Field(None, description="left out: that of the architecture")
    volumes: int = Field(4, ge=1, description="volumes a step")
    cuts: int = Field(2, ge=1, description="clips cut from each volume, each along its own plane and window")
    slices: int = Field(1, ge=1, description="slices a clip")
    objects: int = Field(4, ge=1, description="objects a clip")
    clicks: int = Field(3, ge=1, description="most clicks on the first slice, each after a prediction")
    corrections: int = Field(0, ge=0, description="later clicks on any slice of the clip, each followed by tracking")
    balance: float = Field(0.5, ge=0, le=1, description="of inside against outside in the cross-entropy")
    dense: float = Field(0.2, ge=0, description="weight of the dense task beside the clicks")
    lr: float = Field(5e-4, gt=0)
    warmup: int = Field(100, ge=0)
    final_lr: float = Field(0.05, ge=0, le=1, description="share of lr left at the end of the phase")


class Recipe(_Strict):
    """One training run."""

    name: str
    seed: int = Field(0, ge=0)
    weights: str | None = Field(None, description="start from a segmenter's weights instead of random ones")
    architecture: Architecture = Architecture()
    data: Data = Data()
    phases: tuple[Phase, ...] = Field(min_length=1)
    weight_decay: float = Field(0.05, ge=0)
    clip_norm: float = Field(1.0, gt=0)
    precision: Literal["float32", "bfloat16"] = Field("float32", description="of the arithmetic; weights stay float32")
    ema: float = Field(0.998, ge=0, lt=1)
    evaluate_every: int = Field(500, ge=1)
    checkpoint_every: int = Field(200, ge=1)
    validation_volumes: int = Field(24, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _near_match(cls, data: Any) -> Any:
        if isinstance(data, dict):
            for key in data:
                if key not in cls.model_fields:
                    raise unknown_name("recipe key", key, cls.model_fields)
        return data


def list_recipes() -> dict[str, Path]:
    """Return the packaged recipes by name."""
    folder = files("synthfm_train") / "recipes"
    return {path.stem: path for path in sorted(Path(str(folder)).glob("*.toml"))}


def load_recipe(name_or_path: str, overrides: tuple[str, ...] = ()) -> Recipe:
    """Read a recipe by packaged name or from a TOML file.

    Args:
        name_or_path: for example ``"synthfm3d-nano"`` or ``"my/recipe.toml"``.
        overrides: ``"key=value"`` or ``"phases.0.steps=20"``, the value in TOML syntax.

    Raises:
        InputError: the file is missing or is not TOML, or a key or value is not a recipe's.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        packaged = list_recipes()
        if name_or_path not in packaged:
            raise unknown_name("recipe", name_or_path, packaged)
        path = packaged[name_or_path]
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"recipe {str(path)!r} does not exist; `synthfm train --help` lists the packaged ones"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"recipe {str(path)!r} is not TOML: {error}") from None
    for override in overrides:
        _apply(data, override)
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "recipe"
        raise InputError(f"recipe {str(path)!r}: {where}: {first['msg']} (got {first['input']!r})") from None


def _apply(data: dict[str, Any], override: str) -> None:
    key, sign, value = override.partition("=")
    if not sign:
        raise InputError(f"--set {override!r} is not of the form key=value")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value
    *parents, last = key.strip().split(".")
    target: Any = data
    try:
        for part in parents:
            target = target[int(part)] if isinstance(target, list) else target.setdefault(part, {})
        if isinstance(target, list):
            target[int(last)] = parsed
        else:
            target[last] = parsed
    except (ValueError, IndexError, AttributeError, TypeError):
        raise InputError(f"--set {override!r}: the recipe has no place {key!r}") from None
