"""Defines and reads recipes of the volume network's training."""

from typing import Literal, Self

from pydantic import Field, model_validator

from synthfm_env.errors import InputError
from synthfm_env.segmenters.focus import Shape
from synthfm_env.segmenters.volume_network.network import NetworkArchitecture
from synthfm_env.synthesis import SynthFM3D
from synthfm_train.recipe_io import Seed, Strict, read_fields, validated

MOST_CHANNELS = 2048
"""Largest width of a network."""

MOST_VOXELS = 512
"""Largest side of a grid."""


class VolumeData(Strict):
    """The synthetic volumes that episodes are played on."""

    recipes: tuple[str, ...] = Field(("any", "any", "boundary-only"), min_length=1, description="they take turns")
    shapes: tuple[Shape, ...] = Field(((64, 128, 128),), min_length=1, description="(D, H, W), they take turns")
    structures: int = Field(4, ge=1, description="episodes of each volume")
    min_voxels: int = Field(40, ge=1, description="smallest structure")

    def generators(self) -> list[SynthFM3D]:
        """Return one generator for each pair of shape and recipe; raises InputError if one cannot be drawn."""
        return [SynthFM3D(shape, recipe) for shape in self.shapes for recipe in self.recipes]


class GridPhase(Strict):
    """One stretch of training on one size of grid."""

    steps: int = Field(ge=1)
    grid: Shape = Field(description="(d, h, w) that crops are resampled to")
    flat_grid: Shape = Field((8, 40, 40), description="the same, for volumes of a few slices")
    flat_share: float = Field(0.0, ge=0, le=1, description="share of steps on volumes of a few slices")
    batch: int = Field(8, ge=1, description="episodes a step")
    lr: float = Field(1.0, gt=0, description="factor on the rates of the optimisers")
    warmup: int = Field(100, ge=0)
    final_lr: float = Field(0.05, ge=0, le=1, description="share of lr left at the end of the phase")


class NetworkRecipe(Strict):
    """One training of a volume network."""

    name: str
    kind: Literal["volume-network"]
    seed: Seed = 0
    dimensions: Literal[2, 3] = 3
    widths: tuple[int, ...] = Field(
        (32, 64, 128), min_length=2, max_length=6, description="channels at 1/2, 1/4, 1/8 ... of the grid"
    )
    weights: str | None = Field(None, description="a file of weights to start from; left out: random")
    data: VolumeData = VolumeData()
    flat_data: VolumeData = VolumeData(shapes=((5, 128, 128),))
    pool: int = Field(32, ge=1, description="episodes that run side by side")
    optimizer: Literal["muon", "adamw"] = Field("muon", description="of the hidden kernels; all else is AdamW's")
    muon_lr: float = Field(4e-3, gt=0)
    lr: float = Field(1.5e-3, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    clip_norm: float = Field(1.0, gt=0)
    ema: float = Field(0.998, ge=0, lt=1)
    evaluate_every: int = Field(1000, ge=1)
    checkpoint_every: int = Field(500, ge=1)
    validation_volumes: int = Field(12, ge=1)
    phases: tuple[GridPhase, ...] = Field(min_length=1)

    @property
    def architecture(self) -> NetworkArchitecture:
        """The sizes of the network."""
        return NetworkArchitecture(self.dimensions, self.widths)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for width in self.widths:
            if width % 8 or not 8 <= width <= MOST_CHANNELS:
                raise ValueError(f"widths: expected multiples of 8 from 8 to {MOST_CHANNELS}, got {width}")
        stride = self.architecture.stride
        for index, phase in enumerate(self.phases):
            for grid in (phase.grid, phase.flat_grid) if phase.flat_share else (phase.grid,):
                if any(n % step or not step <= n <= MOST_VOXELS for n, step in zip(grid, stride, strict=True)):
                    raise ValueError(
                        f"phases.{index}: a grid of {grid} must be a multiple of {stride}, up to {MOST_VOXELS} a side"
                    )
            if phase.batch > self.pool:
                raise ValueError(f"phases.{index}.batch is {phase.batch}, and the pool holds {self.pool}; lower it")
        return self


def load_network_recipe(name_or_path: str, overrides: tuple[str, ...] = ()) -> NetworkRecipe:
    """Read the recipe of a volume network's training; see ``load_recipe``."""
    tables = {"data": list(VolumeData.model_fields), "flat_data": list(VolumeData.model_fields)}
    fields = read_fields(name_or_path, overrides)
    recipe = validated(NetworkRecipe, fields, name_or_path, {"phases": GridPhase}, tables)
    try:
        recipe.data.generators()
        if any(phase.flat_share for phase in recipe.phases):
            recipe.flat_data.generators()
    except InputError as error:
        raise InputError(f"recipe {name_or_path!r}: {error}") from None
    return recipe
