"""Presets and options of the SAM 2 engine."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

from synthfm_env.arguments import check_name
from synthfm_env.errors import InputError, unknown_name
from synthfm_env.printable import shown

MemoryPolicy = Literal["all", "nearest", "confident"]
Preset = Literal["auto", "stock", "fast", "full"]

PATCH = 32
"""Pixels of a frame along a side of one element of the encoder's coarsest map."""
MOST_PIXELS = 4096
"""Largest side of the frames that a model takes. Meta's take 1024."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """Steps around SAM 2; the defaults are those of the preset "fast".

    Attributes:
        planes: 3 to track along y and x as well as along z, and an image or thin stack in all eight orientations; the
            logits are averaged. 1 for z alone.
        zoom: answer from a crop around the object at the model's full resolution.
        ensemble: add the logits of the packaged volume network (``synthfm3d-unet``, ``synthfm2d-unet``), which answers
            the same clicks; it also finds the crop for the first one.
        memory: which slices memory attention attends to, in fast mode. "all": every prompted slice and the last six
            tracked. "nearest": of the prompted slices the four nearest. "confident": every prompted slice, and of the
            last sixteen tracked the six of the highest estimated IoU, after MedSAM-2's bank (Zhu et al. 2024,
            arXiv:2408.00874).
        feature_budget: bytes that the encoded slices of one stack may take; beyond it they are encoded again.
        image_size: pixels along each side of the square that slices are resized to, a multiple of 32; None for the size
            of the weights (1024 for Meta's). Position embeddings follow as in SAM 2: Hiera's are interpolated
            bicubically, the rotary ones of memory attention are computed for the size.

    Raises:
        InputError: a value is none of these.

    Example:
        >>> EngineOptions(planes=3).zoom
        False
    """

    planes: Literal[1, 3] = 1
    zoom: bool = False
    ensemble: bool = False
    memory: MemoryPolicy = "all"
    feature_budget: int = 2 * 2**30
    image_size: int | None = None

    def __post_init__(self) -> None:
        if self.planes not in (1, 3):
            raise InputError(f"EngineOptions(planes={self.planes!r}): expected 1 or 3")
        for name in ("zoom", "ensemble"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"EngineOptions({name}={getattr(self, name)!r}): expected True or False")
        if self.memory not in get_args(MemoryPolicy):
            raise unknown_name("memory policy", self.memory, get_args(MemoryPolicy))
        if not isinstance(self.feature_budget, int) or self.feature_budget < 1:
            raise InputError(f"EngineOptions(feature_budget={self.feature_budget!r}): expected bytes, 1 or more")
        if self.image_size is not None and not _is_image_size(self.image_size):
            raise InputError(
                f"EngineOptions(image_size={self.image_size!r}): expected a multiple of {PATCH} from {PATCH} to "
                f"{MOST_PIXELS}, or None"
            )


def _is_image_size(size: object) -> bool:
    return type(size) is int and size % PATCH == 0 and PATCH <= size <= MOST_PIXELS


FAST = EngineOptions()
FULL = EngineOptions(planes=3, zoom=True, ensemble=True)
PRESETS: dict[str, EngineOptions] = {"stock": FAST, "fast": FAST, "full": FULL}
_ALIASES = {"exact": "stock"}


def resolve_options(
    preset: str, options: EngineOptions | Mapping[str, Any] | None, *, trained_here: bool
) -> tuple[bool, EngineOptions]:
    """Return whether stock SAM 2's arithmetic was asked for, and the options.

    Args:
        preset: "stock" for stock SAM 2's masks; "fast" for nearly the same, without work that hardly changes them;
            "full" for fast arithmetic with all options; "auto" for "full" with weights that ``synthfm train`` made and
            "fast" with others. "exact" is another name of "stock".
        options: all options, or those that differ from the preset's by name, or None for the preset's.
        trained_here: whether ``synthfm train`` made the weights.

    Raises:
        InputError: an unknown preset or option, or options that do not fit together.
    """
    preset = _ALIASES.get(preset, preset) if isinstance(preset, str) else preset
    if preset == "auto":
        preset = "full" if trained_here else "fast"
    check_name("preset", preset, get_args(Preset))
    if isinstance(options, EngineOptions):
        chosen = options
    else:
        if not isinstance(options, Mapping | None):
            raise InputError(f"options={shown(options)}: expected EngineOptions, or a dict as {{'ensemble': False}}")
        changes = dict(options or {})
        known = [field.name for field in fields(EngineOptions)]
        for name in changes:
            if name not in known:
                raise unknown_name("option of SAM 2", name, known)
        chosen = replace(PRESETS[preset], **changes)
    if preset == "stock" and chosen.memory != "all":
        raise InputError(f"memory={chosen.memory!r} needs fast arithmetic; preset 'stock' remembers all, as SAM 2 does")
    return preset == "stock", chosen
