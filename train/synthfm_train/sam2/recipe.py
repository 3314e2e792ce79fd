"""Defines and reads recipes of SAM 2's training."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from synthfm_env.errors import InputError, unknown_name
from synthfm_env.segmenters.sam2 import OFFICIAL, Architecture
from synthfm_env.segmenters.sam2.slice_context import MOST_CHANNELS, SliceContext
from synthfm_env.synthesis import SynthFM3D
from synthfm_env.volumes.datasets import get_layout
from synthfm_train.recipe_io import Seed, Strict, read_fields, validated
from synthfm_train.sam2.freezing import Trains
from synthfm_train.sam2.losses import LossName
from synthfm_train.sam2.real_volumes import DatasetSource, RealVolumes, Side

RANDOM = "random"


def _several(value: Any) -> Any:
    """Convert a single shape to a list of one."""
    is_one = isinstance(value, (list, tuple)) and value and not isinstance(value[0], (list, tuple))
    return [value] if is_one else value


Shapes = Annotated[tuple[tuple[int, int, int], ...], BeforeValidator(_several), Field(min_length=1)]


class Data(Strict):
    """Source of clips: SynthFM-3D volumes, or real ones."""

    recipe: str = "any"
    shape: Shapes = Field(((32, 128, 128),), description="(D, H, W) of the volumes, or several that take turns")
    zoom: tuple[float, float] = Field((0.35, 1.0), description="side of the in-plane window cut from a slice")
    min_pixels: int = Field(24, ge=1, description="smallest object on the prompted slice, at the model's resolution")
    planes: Literal["all", "z"] = Field("all", description="that clips are cut along: all three, or z alone")
    direction: Literal["both", "up"] = Field(
        "both",
        description="of the slices; up: relative positions need volumes of one orientation, and their order kept",
    )
    root: str = Field(".", description="folder of the data sets")
    datasets: tuple[DatasetSource, ...] = Field((), description="real volumes, in place of synthetic ones")

    @field_validator("zoom")
    @classmethod
    def _shares_of_a_side(cls, zoom: tuple[float, float]) -> tuple[float, float]:
        if not 0 < zoom[0] <= zoom[1] <= 1:
            raise ValueError(f"zoom: expected two shares above 0 and up to 1, the smaller one first, got {zoom}")
        return zoom

    def generators(self, side: Side = "train") -> Sequence[SynthFM3D | RealVolumes]:
        """Return the sources of volumes, one for each shape or data set; they take turns.

        Args:
            side: of real patients. Synthetic volumes of both sides differ by their seeds.

        Raises:
            InputError: a volume cannot be drawn, or the files of a data set are missing.
        """
        if self.datasets:
            return [RealVolumes(source, self.root, side) for source in self.datasets]
        return [SynthFM3D(shape, self.recipe) for shape in self.shape]

    def check(self) -> None:
        """Raise InputError if a shape, recipe or layout is unknown; files need not be there."""
        for source in self.datasets:
            get_layout(source.layout)
        if not self.datasets:
            self.generators()


class Phase(Strict):
    """One phase of training, with its own task, batch and learning rate."""

    kind: Literal["dense", "distill", "clicks"] = Field(
        "clicks",
        description="dense: contrastive pixel embeddings on the label map; distill: maps of the image encoder of the "
        "recipe's weights, for a new trunk; clicks: prompted masks",
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
    dense: float = Field(0.2, ge=0, description="weight of the dense task, added to the clicks' loss")
    relative_position: float = Field(0.0, ge=0, description="weight of slice relative position prediction, of clips")
    boundary: float = Field(0.0, ge=0, description="weight of boundary detection, on slices that have memories")
    lr: float = Field(5e-4, gt=0)
    warmup: int = Field(100, ge=0)
    final_lr: float = Field(0.05, ge=0, le=1, description="share of lr left at the end of the phase")

    @model_validator(mode="after")
    def _shares(self) -> Self:
        if self.boxes + self.masks > 1:
            raise ValueError(f"boxes {self.boxes} and masks {self.masks} are shares: together at most 1")
        return self

    @model_validator(mode="after")
    def _auxiliary_losses_need_clips(self) -> Self:
        if (self.relative_position or self.boundary) and (self.kind != "clicks" or self.slices == 1):
            raise ValueError(
                f"relative_position {self.relative_position} and boundary {self.boundary} weigh losses of prompted "
                'clips: set kind = "clicks" and slices to 2 or more, or both weights to 0'
            )
        return self


class TrainingRecipe(Strict):
    """One training run."""

    name: str
    seed: Seed = 0
    weights: str = Field(RANDOM, description="random, or a segmenter's weights: a name or a file")
    architecture: Architecture | str | None = Field(
        None, description="sizes of a model of ours, or an official name; left out: that of the weights"
    )
    trains: Trains = "all"
    lora: int = Field(0, ge=0, le=256, description="rank of updates of attention in the frozen image encoder; 0: none")
    depth_adapter: int = Field(0, ge=0, le=MOST_CHANNELS, description="channels of 3D adapters in the image encoder")
    neighbours: bool = Field(False, description="neighbouring slices in the first and third colour channel (2.5D)")
    loss: LossName = "synthfm3d"
    data: Data = Data()
    phases: tuple[Phase, ...] = Field(min_length=1)
    weight_decay: float = Field(0.05, ge=0)
    clip_norm: float = Field(1.0, gt=0)
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="of the arithmetic; a CPU without bfloat16 takes float32; weights are float32"
    )
    ema: float = Field(0.998, ge=0, lt=1)
    evaluate_every: int = Field(500, ge=1)
    checkpoint_every: int = Field(200, ge=1)
    validation_volumes: int = Field(24, ge=1)

    def data_of(self, phase: Phase) -> Data:
        """Return the source of a phase's clips."""
        own = {"shape": phase.shape, "min_pixels": phase.min_pixels}
        return self.data.model_copy(update={key: value for key, value in own.items() if value is not None})

    @field_validator("architecture", mode="before")
    @classmethod
    def _official(cls, value: Any) -> Any:
        if isinstance(value, str) and value not in OFFICIAL:
            raise unknown_name("architecture", value, OFFICIAL)
        return value

    @property
    def context(self) -> SliceContext:
        """Neighbouring slices that the image encoder sees."""
        return SliceContext(self.neighbours, self.depth_adapter)

    @model_validator(mode="after")
    def _lora_needs_a_frozen_encoder(self) -> Self:
        if self.lora and self.trains != "memory+decoder":
            raise ValueError(f"lora {self.lora} updates a frozen image encoder: set trains = 'memory+decoder'")
        if self.neighbours and self.depth_adapter:
            raise ValueError(f"neighbours and depth_adapter {self.depth_adapter} exclude each other; choose one")
        return self

    @model_validator(mode="after")
    def _the_encoder_trains_in_its_phases(self) -> Self:
        for kind in ("dense", "distill"):
            if self.trains != "all" and any(phase.kind == kind for phase in self.phases):
                raise ValueError(
                    f"trains {self.trains!r} freezes the image encoder, the one thing that a {kind} phase trains"
                )
        return self

    @model_validator(mode="after")
    def _distillation_needs_a_teacher(self) -> Self:
        if self.weights == RANDOM and any(phase.kind == "distill" for phase in self.phases):
            raise ValueError(
                "a distill phase reproduces the maps of the recipe's weights, which are random: set weights to a name "
                "or a file, and the new trunk in architecture"
            )
        return self


_TABLES = {"data": list(Data.model_fields), "architecture": [field.name for field in fields(Architecture)]}


def load_recipe(name_or_path: str, overrides: tuple[str, ...] = ()) -> TrainingRecipe:
    """Read the recipe of a SAM 2's training by packaged name or from a TOML file.

    Args:
        name_or_path: for example ``"synthfm3d-nano"`` or ``"my/recipe.toml"``.
        overrides: ``"key=value"`` or ``"phases.0.steps=20"``, the value in TOML syntax.

    Raises:
        InputError: the file is missing or not TOML, or a key or value is invalid.
    """
    recipe = validated(TrainingRecipe, read_fields(name_or_path, overrides), name_or_path, {"phases": Phase}, _TABLES)
    try:
        for drawn in {recipe.data, *map(recipe.data_of, recipe.phases)}:
            drawn.check()
    except InputError as error:
        raise InputError(f"recipe {name_or_path!r}: {error}") from None
    return recipe
