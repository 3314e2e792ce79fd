"""Defines and reads recipes of the refiner's training."""

from typing import Self

from pydantic import Field, field_validator, model_validator

from synthfm_agents import list_clickers
from synthfm_env.errors import InputError, unknown_name
from synthfm_train.recipe_io import Seed, Strict, read_fields, validated
from synthfm_train.sam2.recipe import Data

MOST_VOXELS = 512
"""Largest side of a crop."""


class Round(Strict):
    """One round: record inputs with the present refiner, then train on these and on those of earlier rounds."""

    volumes: int = Field(ge=2, description="synthetic volumes to record from; a twelfth of them is for validation")
    steps: int = Field(ge=1)
    lr: float = Field(1.5e-3, gt=0)
    warmup: int = Field(50, ge=0)
    final_lr: float = Field(0.01, ge=0, le=1, description="share of lr left at the end of the round")


class RefinerRecipe(Strict):
    """Settings of a training of the refiner, the 3D network that corrects the combined logits of views and prior."""

    name: str
    seed: Seed = 0
    segmenter: str = Field("synthfm3d-nano", description="whose views are refined: a name, or a file of weights")
    data: Data = Data()
    structures: int = Field(2, ge=1, description="structures to click on in each volume")
    clickers: tuple[str, ...] = Field(("ritm-3d-v1",), min_length=1, description="click rules that take turns")
    clicks: int = Field(10, ge=1)
    keep: float = Field(
        0.6, gt=0, le=1, description="share of the recorded inputs that is kept, because those of one click are similar"
    )
    rounds: tuple[Round, ...] = Field(min_length=1)
    batch: int = Field(4, ge=1, description="crops a step")
    crop: tuple[int, int] = Field((36, 64), description="least and most voxels along a crop's side")
    weight_decay: float = Field(1e-4, ge=0)
    clip_norm: float = Field(1.0, gt=0)
    ema: float = Field(0.99, ge=0, lt=1)
    checkpoint_every: int = Field(200, ge=1)

    @field_validator("crop")
    @classmethod
    def _least_and_most(cls, crop: tuple[int, int]) -> tuple[int, int]:
        if not 1 <= crop[0] <= crop[1] <= MOST_VOXELS:
            raise ValueError(f"crop: expected least and most voxels of a side, 1 to {MOST_VOXELS}, got {crop}")
        return crop

    @model_validator(mode="after")
    def _known_clickers(self) -> Self:
        for clicker in self.clickers:
            if clicker not in list_clickers():
                raise unknown_name("clicker", clicker, list_clickers())
        return self


def load_refiner_recipe(name_or_path: str, overrides: tuple[str, ...] = ()) -> RefinerRecipe:
    """Read the recipe of a refiner's training; see ``load_recipe``."""
    recipe = validated(
        RefinerRecipe,
        read_fields(name_or_path, overrides),
        name_or_path,
        {"rounds": Round},
        {"data": list(Data.model_fields)},
    )
    try:
        recipe.data.generators()
    except InputError as error:
        raise InputError(f"recipe {name_or_path!r}: {error}") from None
    return recipe
