"""Recipes: what a training run does, as validated data."""

import tomllib
from dataclasses import fields
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from synthfm_env.errors import InputError, unknown_name
from synthfm_env.segmenters.sam2 import OFFICIAL, Architecture
from synthfm_env.synthesis import SynthFM3D
from synthfm_train.sam2.freezing import Trains
from synthfm_train.sam2.losses import LossName

RANDOM = "random"
_Kind = TypeVar("_Kind", bound=BaseModel)


class Strict(BaseModel):
    """Fields that are checked, none unknown, none changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _several(value: Any) -> Any:
    """Take one shape for a list of one."""
    is_one = isinstance(value, (list, tuple)) and value and not isinstance(value[0], (list, tuple))
    return [value] if is_one else value


Shapes = Annotated[tuple[tuple[int, int, int], ...], BeforeValidator(_several), Field(min_length=1)]


class Data(Strict):
    """Where clips come from: SynthFM-3D volumes, cut along all three planes."""

    recipe: str = "any"
    shape: Shapes = Field(((32, 128, 128),), description="(D, H, W) of the volumes, or several that take turns")
    zoom: tuple[float, float] = Field((0.35, 1.0), description="side of the in-plane window cut from a slice")
    min_pixels: int = Field(24, ge=1, description="smallest object on the prompted slice, at the model's resolution")

    def generators(self) -> list[SynthFM3D]:
        """Return what draws the volumes, one for each shape; raises InputError where one cannot be drawn."""
        return [SynthFM3D(shape, self.recipe) for shape in self.shape]


class Phase(Strict):
    """One stretch of training with one kind of task, batch and learning rate."""

    kind: Literal["dense", "clicks"] = Field(
        "clicks", description="dense: contrastive pixel embeddings on the label map; clicks: prompted masks"
    )
    steps: int = Field(ge=1)
    image_size: int | None = Field(None, ge=32, multiple_of=32, description="left out: that of the architecture")
    shape: Shapes | None = Field(None, description="of the volumes; left out: that of data")
    min_pixels: int | None = Field(None, ge=1, description="left out: that of data")
    volumes: int = Field(4, ge=1, description="volumes a step")
    cuts: int = Field(2, ge=1, description="clips cut from each volume, each along its own plane and window")
    slices: int = Field(1, ge=1, description="slices a clip")
    objects: int = Field(4, ge=1, description="objects a clip")
    clicks: int = Field(3, ge=1, description="most clicks on the first slice, each after a prediction")
    corrections: int = Field(0, ge=0, description="later clicks on any slice of the clip, each followed by tracking")
    boxes: float = Field(0.0, ge=0, le=1, description="share of steps whose first prompt is a noisy box, not a click")
    masks: float = Field(0.0, ge=0, le=1, description="share of steps on clips whose first slice comes with its mask")
    images: float = Field(0.0, ge=0, le=1, description="share of steps that take only the first slice of each clip")
    balance: float = Field(0.5, ge=0, le=1, description="of inside against outside in the cross-entropy")
    dense: float = Field(0.2, ge=0, description="weight of the dense task beside the clicks")
    lr: float = Field(5e-4, gt=0)
    warmup: int = Field(100, ge=0)
    final_lr: float = Field(0.05, ge=0, le=1, description="share of lr left at the end of the phase")

    @model_validator(mode="after")
    def _shares(self) -> Self:
        if self.boxes + self.masks > 1:
            raise ValueError(f"boxes {self.boxes} and masks {self.masks} are shares: together at most 1")
        return self


class Recipe(Strict):
    """One training run."""

    name: str
    seed: int = Field(0, ge=0)
    weights: str = Field(RANDOM, description="random, or a segmenter's weights: a name or a file")
    architecture: Architecture | str | None = Field(
        None, description="sizes of a model of ours, or an official name; left out: that of the weights"
    )
    trains: Trains = "all"
    loss: LossName = "synthfm3d"
    data: Data = Data()
    phases: tuple[Phase, ...] = Field(min_length=1)
    weight_decay: float = Field(0.05, ge=0)
    clip_norm: float = Field(1.0, gt=0)
    precision: Literal["float32", "bfloat16"] = Field("float32", description="of the arithmetic; weights stay float32")
    ema: float = Field(0.998, ge=0, lt=1)
    evaluate_every: int = Field(500, ge=1)
    checkpoint_every: int = Field(200, ge=1)
    validation_volumes: int = Field(24, ge=1)

    def data_of(self, phase: Phase) -> Data:
        """Return where the clips of a phase come from."""
        own = {"shape": phase.shape, "min_pixels": phase.min_pixels}
        return self.data.model_copy(update={key: value for key, value in own.items() if value is not None})

    @field_validator("architecture", mode="before")
    @classmethod
    def _official(cls, value: Any) -> Any:
        if isinstance(value, str) and value not in OFFICIAL:
            raise unknown_name("architecture", value, OFFICIAL)
        return value

    @model_validator(mode="after")
    def _dense_needs_the_encoder(self) -> Self:
        if self.trains != "all" and any(phase.kind == "dense" for phase in self.phases):
            raise ValueError(
                f"trains {self.trains!r} freezes the image encoder, the one thing that a dense phase trains"
            )
        return self


def list_recipes() -> dict[str, Path]:
    """Return the packaged recipes by name."""
    folder = files("synthfm_train") / "recipes"
    return {path.stem: path for path in sorted(Path(str(folder)).glob("*.toml"))}


def load_recipe(name_or_path: str, overrides: tuple[str, ...] = ()) -> Recipe:
    """Read the recipe of a SAM 2's training by packaged name or from a TOML file.

    Args:
        name_or_path: for example ``"synthfm3d-nano"`` or ``"my/recipe.toml"``.
        overrides: ``"key=value"`` or ``"phases.0.steps=20"``, the value in TOML syntax.

    Raises:
        InputError: the file is missing or is not TOML, or a key or value is not a recipe's.
    """
    recipe = validated(Recipe, read_fields(name_or_path, overrides), name_or_path, {"phases": Phase})
    try:
        for drawn in {recipe.data, *map(recipe.data_of, recipe.phases)}:
            drawn.generators()
    except InputError as error:
        raise InputError(f"recipe {name_or_path!r}: {error}") from None
    return recipe


def read_fields(name_or_path: str, overrides: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the fields of a recipe of any kind, unchecked; raises InputError where they cannot be read."""
    data = _read(name_or_path)
    for override in overrides:
        _apply(data, override)
    return data


def validated(kind: type[_Kind], data: dict[str, Any], name_or_path: str, lists: dict[str, type[BaseModel]]) -> _Kind:
    """Return a recipe of checked fields.

    Args:
        kind: of recipe.
        data: its fields.
        name_or_path: where they are from.
        lists: which fields are lists, and of what.

    Raises:
        InputError: a key or value is not a recipe's; an unknown key is told the near matches.
    """
    try:
        _check_keys(kind, data, lists)
        return kind.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part not in ("Architecture", "str"))
        said = first["msg"].removeprefix("Value error, ")
        given = "" if first["type"] == "value_error" else f", got {first['input']!r}"
        raise InputError(f"recipe {name_or_path!r}: {where + ': ' if where else ''}{said}{given}") from None
    except InputError as error:
        raise InputError(f"recipe {name_or_path!r}: {error}") from None


def _read(name_or_path: str) -> dict[str, Any]:
    """Return a recipe's fields; ``extends = "name"`` states only what differs from that one, ``data`` key by key."""
    path = Path(name_or_path)
    if path.suffix != ".toml":
        packaged = list_recipes()
        if name_or_path not in packaged:
            raise unknown_name("recipe", name_or_path, packaged)
        path = packaged[name_or_path]
    try:
        own = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        names = ", ".join(list_recipes())
        raise InputError(f"recipe {str(path)!r} does not exist; the packaged ones are {names}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"recipe {str(path)!r} cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"recipe {str(path)!r} is not TOML: {error}") from None
    if "extends" not in own:
        return own
    base = _read(str(own.pop("extends")))
    return {**base, **own, "data": {**base.get("data", {}), **own.get("data", {})}}


def _check_keys(kind: type[BaseModel], data: dict[str, Any], lists: dict[str, type[BaseModel]]) -> None:
    """Refuse unknown keys at every level, with the near matches; all else is left to pydantic."""
    places: list[tuple[str, Any, list[str]]] = [
        ("recipe key", data, list(kind.model_fields)),
        ("key of data", data.get("data"), list(Data.model_fields)),
        ("key of architecture", data.get("architecture"), [field.name for field in fields(Architecture)]),
    ]
    for key, part in lists.items():
        given = data.get(key)
        parts = given if isinstance(given, list) else []
        places += [(f"key of {key}.{i}", one, list(part.model_fields)) for i, one in enumerate(parts)]
    for what, given, known in places:
        for key in given if isinstance(given, dict) else ():
            if key not in known:
                raise unknown_name(what, key, known)


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
        raise InputError(
            f"--set {override!r}: the recipe has no place {key!r}; phases count from 0, as in phases.0.steps=20"
        ) from None
