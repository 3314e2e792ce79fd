"""Builds segmenters from their names."""

import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from synthfm_env.errors import InputError, unknown_name
from synthfm_env.plugins import build, load_class
from synthfm_env.printable import shown
from synthfm_env.segmenters.adapters import ADAPTERS, find_adapter, make_adapter, refuse_device
from synthfm_env.segmenters.base import Segmenter
from synthfm_env.segmenters.extras import missing_extra
from synthfm_env.segmenters.placed_weights import weights_folder

if TYPE_CHECKING:
    from synthfm_env.segmenters.sam2.options import EngineOptions

Options: TypeAlias = "EngineOptions | Mapping[str, Any] | None"

_DESCRIPTIONS = {
    "synthfm3d-nano": "the SAM 2 architecture, small, trained here on SynthFM-3D volumes alone (not Meta's weights)",
    "synthfm2d-small": "the same, smaller, for single images: trained here on SynthFM's alone (not Meta's weights)",
    "synthfm3d-unet": "a small 3D U-Net that takes clicks as channels, trained here on SynthFM-3D volumes alone; quick",
    "synthfm2d-unet": "the same for images: one slice",
    "geodesic": "classical: geodesic distance to positive against negative clicks over the image gradient",
}


# Repeated here, so that listing segmenters does not import torch. A test compares them with sam2's configurations.
_OFFICIAL = tuple(f"{v}-hiera-{size}" for v in ("sam2.1", "sam2") for size in ("tiny", "small", "base-plus", "large"))
_DESCRIPTIONS |= {name: "Meta's SAM 2" for name in _OFFICIAL}
_DESCRIPTIONS |= {name: adapter.description for name, adapter in ADAPTERS.items()}


def list_segmenters() -> dict[str, str]:
    """Return the names that ``make_segmenter`` accepts, each with a line of description.

    Example:
        >>> "geodesic" in list_segmenters()
        True
    """
    return dict(_DESCRIPTIONS)


def missing_for(name: str) -> str | None:
    """Return an instruction to install or download what a segmenter lacks on this machine; None if it is ready.

    It imports and downloads nothing.

    Args:
        name: from ``list_segmenters``.

    Example:
        >>> from synthfm_env.segmenters import missing_for
        >>> missing_for("geodesic") is None
        True
    """
    if name in ADAPTERS:
        return ADAPTERS[name].missing(name)
    if name not in _OFFICIAL:
        return None
    placed = weights_folder() / f"{name.replace('-', '_')}.pt"
    if placed.is_file():
        return None
    if find_spec("huggingface_hub") is None:
        return f"place {placed.name} at {placed}, or have it fetched: {missing_extra('huggingface_hub', 'hub', name)}"
    return f"fetched from the hub when it is first used, or place {placed.name} at {placed}"


def make_segmenter(
    name_or_path: str,
    device: str = "auto",
    preset: str = "auto",
    options: Options = None,
    *,
    mode: Literal["auto", "fast", "exact"] | None = None,
    planes: Literal[1, 3] | None = None,
    zoom: bool | None = None,
    time_limit_s: float | None = None,
) -> Segmenter:
    """Build a segmenter.

    Args:
        name_or_path: one of

            - a name from ``list_segmenters``; some take an argument, ``NAME:ARGUMENT`` (a command, an address, a
              checkpoint);
            - a checkpoint that ``synthfm train`` wrote, or an official one (``.safetensors``, ``.pt``);
            - your own class as ``"package.module:Class"``, which is called without arguments.
        device: ``"cpu"``, ``"cuda"``, or ``"auto"`` for CUDA if the machine has it.
        preset: of SAM 2. ``"stock"`` gives stock SAM 2's masks. ``"fast"`` gives nearly the same masks with less work.
            ``"full"`` is fast mode with three planes, a crop that follows the object, and the volume network.
            ``"auto"`` is full for weights that ``synthfm train`` wrote and fast for others.
        options: of SAM 2, instead of the preset's: ``EngineOptions``, or a dict of those that differ, for example
            ``{"ensemble": False}``.
        mode: another name of ``preset``, with ``"exact"`` for ``"stock"``.
        planes: deprecated; use ``options``.
        zoom: deprecated; use ``options``.
        time_limit_s: longest time for one answer of a ``bridge:``, ``cvpr25:`` or ``nninteractive:`` segmenter.

    Raises:
        InputError: the name, preset or option is unknown, the segmenter does not have the option, or its weights cannot
            be loaded.

    Example:
        >>> make_segmenter("geodesic").name
        'geodesic'
    """
    options = _with_deprecated(options, planes=planes, zoom=zoom)
    if mode is not None:
        preset = mode
    if not isinstance(name_or_path, str):
        raise InputError(f"make_segmenter({shown(name_or_path)}): expected a name or a path as text")
    # Other authors' models, by name; commands and servers have a time limit.
    if (adapter := find_adapter(name_or_path)) is not None:
        _refuse_options(name_or_path, preset, options)
        return make_adapter(*adapter, device, time_limit_s)
    if time_limit_s is not None:
        raise InputError(f"make_segmenter(time_limit_s={shown(time_limit_s)}): {name_or_path!r} runs in this process")
    _refuse_misplaced_path(name_or_path)
    # A class of the user's.
    is_file = name_or_path.endswith((".safetensors", ".pt"))
    if ":" in name_or_path and not is_file:
        _refuse_options(name_or_path, preset, options)
        return build(load_class(name_or_path, Segmenter, "segmenter"), name_or_path, "segmenter")
    # The package's own. Each is imported here, because torch and sam2 take seconds to import.
    if name_or_path == "geodesic":
        from synthfm_env.segmenters.geodesic import Geodesic

        _refuse_options(name_or_path, preset, options)
        refuse_device(name_or_path, device)
        return Geodesic()
    from synthfm_env.segmenters.volume_network.weights import EMBEDDED, holds_volume_network

    if name_or_path in EMBEDDED or holds_volume_network(Path(name_or_path)):
        from synthfm_env.segmenters.devices import pick_device
        from synthfm_env.segmenters.volume_network.segmenter import load_volume_network

        _refuse_options(name_or_path, preset, options)
        return load_volume_network(name_or_path, pick_device(device))
    if name_or_path not in _DESCRIPTIONS and not is_file:
        raise unknown_name("segmenter", name_or_path, _DESCRIPTIONS)
    return _make_sam2(name_or_path, device, preset, options)


def _refuse_misplaced_path(name_or_path: str) -> None:
    """Raise InputError for a path that needs a name before it, or a name that takes no path, with the form to use."""
    if name_or_path.endswith(".pth"):
        names = ", ".join(f"{name}:PATH" for name, adapter in ADAPTERS.items() if adapter.weights is not None)
        raise InputError(
            f"segmenter {shown(name_or_path, 120)}: name the model of a .pth checkpoint, as one of {names}"
        )
    name, colon, path = name_or_path.partition(":")
    if colon and name in _DESCRIPTIONS:
        hint = f"; a SAM 2 checkpoint has no name before its path: give {shown(path, 120)}" if name in _OFFICIAL else ""
        raise InputError(f"segmenter {shown(name_or_path, 120)}: {name!r} takes nothing after a colon{hint}")


def _make_sam2(name_or_path: str, device: str, preset: str, options: Options) -> Segmenter:
    """Build a SAM 2, with the volume network if its options say so; see ``make_segmenter``."""
    from synthfm_env.segmenters.devices import pick_device
    from synthfm_env.segmenters.sam2 import SAM2Segmenter, load_weights, set_image_size, trained_here
    from synthfm_env.segmenters.sam2.options import resolve_options
    from synthfm_env.segmenters.volume_network.segmenter import load_volume_network

    exact, resolved = resolve_options(preset, options, trained_here=trained_here(name_or_path))
    on_device = pick_device(device)
    network = load_volume_network("synthfm3d-unet", on_device) if resolved.ensemble else None
    model = load_weights(name_or_path)
    if resolved.image_size is not None:
        set_image_size(model, resolved.image_size)
    return SAM2Segmenter(name_or_path, model, on_device, exact=exact, options=resolved, network=network)


def _refuse_options(name: str, preset: str, options: Options) -> None:
    """Raise InputError if a preset or an option is given to a segmenter that has none."""
    if preset != "auto":
        raise InputError(f"segmenter {name!r} has no presets, and preset={preset!r} was given: leave it out")
    if options:
        given = type(options).__name__
        if isinstance(options, Mapping):
            given = ", ".join(f"{option}={value!r}" for option, value in options.items())
        raise InputError(f"segmenter {name!r} has no options, and {given} was given: leave it out")


def _with_deprecated(options: Options, **deprecated: Any) -> Options:
    """Move deprecated arguments into the options, with a warning."""
    given = {name: value for name, value in deprecated.items() if value is not None}
    if not given:
        return options
    warnings.warn(
        f"make_segmenter({', '.join(f'{name}=...' for name in given)}) is deprecated: give options={given}",
        DeprecationWarning,
        stacklevel=3,
    )
    if options is not None and not isinstance(options, Mapping):
        raise InputError(f"make_segmenter: give {', '.join(given)} in options, not as arguments as well")
    return {**(options or {}), **given}
