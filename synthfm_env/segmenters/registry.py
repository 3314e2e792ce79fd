"""Segmenters by name."""

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from synthfm_env.errors import InputError, unknown_name
from synthfm_env.plugins import build, load_class
from synthfm_env.printable import printable
from synthfm_env.segmenters.adapters import ADAPTERS, find_adapter, make_adapter
from synthfm_env.segmenters.base import Segmenter
from synthfm_env.segmenters.extras import missing_extra
from synthfm_env.segmenters.placed_weights import weights_folder

_DESCRIPTIONS = {
    "synthfm3d-nano": "the SAM 2 architecture, small, trained here on SynthFM-3D volumes alone (not Meta's weights)",
    "synthfm3d-unet": "a small 3D U-Net that takes clicks as channels, trained here on SynthFM-3D volumes alone; quick",
    "synthfm2d-unet": "the same for images: one slice",
    "geodesic": "classical: geodesic distance to positive against negative clicks over the image gradient",
}


# Spelled out, so that listing them does not import torch; a test compares them with the sam2 package's.
_OFFICIAL = tuple(f"{v}-hiera-{size}" for v in ("sam2.1", "sam2") for size in ("tiny", "small", "base-plus", "large"))
_DESCRIPTIONS |= {name: "Meta's SAM 2" for name in _OFFICIAL}
_DESCRIPTIONS |= {name: adapter.description for name, adapter in ADAPTERS.items()}


def list_segmenters() -> dict[str, str]:
    """Return each name that ``make_segmenter`` knows with one line on what it is.

    Example:
        >>> "geodesic" in list_segmenters()
        True
    """
    return dict(_DESCRIPTIONS)


def missing_for(name: str) -> str | None:
    """Return what a segmenter lacks on this machine, as an instruction; None if it is ready.

    Nothing is imported and nothing is fetched.

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
    mode: Literal["auto", "fast", "exact"] = "auto",
    *,
    planes: Literal[1, 3] | None = None,
    zoom: bool | None = None,
    distances: bool | None = None,
    refine: bool | str | None = None,
    time_limit_s: float | None = None,
) -> Segmenter:
    """Build a segmenter.

    Args:
        name_or_path: a name from ``list_segmenters``, for some with an argument, ``NAME:ARGUMENT`` (a command, an
            address, a checkpoint); a file that ``synthfm train`` wrote or an official checkpoint
            (``.safetensors``, ``.pt``), or a class of your own as ``"package.module:Class"``, called without
            arguments.
        device: where SAM 2 runs: ``"cpu"``, ``"cuda"``, or ``"auto"`` for CUDA where there is one.
        mode: how SAM 2 goes over the slices. ``"exact"`` gives stock SAM 2's masks; ``"fast"`` nearly the same, and
            leaves out work that hardly changes them; ``"auto"`` is fast, with all options below for weights that
            ``synthfm train`` made and without them for Meta's.
        planes: 3 to track along y and x as well as along z and to average the logits, and to see an image in all eight
            turns; 1 for z alone.
        zoom: whether to answer from a box around the object at the model's full resolution.
        distances: whether geodesic distances to the clicks have a say: SAM 2's logits are added to what ``geodesic``
            would say, at most a quarter as loud, and clicked voxels are always obeyed.
        refine: whether a small 3D network, trained on synthetic volumes as well, has the last word on what the views
            of a volume and the distances say; or the path of one that ``synthfm train synthfm3d-refiner`` wrote. Needs
            ``distances``.
        time_limit_s: longest time for one answer of a ``bridge:``, ``cvpr25:`` or ``nninteractive:`` segmenter.

    Raises:
        InputError: an unknown name, an option that the segmenter does not have, weights that cannot be loaded, or
            ``refine`` without ``distances``.

    Example:
        >>> make_segmenter("geodesic").name
        'geodesic'
    """
    if not isinstance(name_or_path, str):
        raise InputError(f"make_segmenter({printable(repr(name_or_path), 80)}): expected a name or a path as text")
    if (adapter := find_adapter(name_or_path)) is not None:
        _refuse_engine_options(name_or_path, mode=mode, planes=planes, zoom=zoom, distances=distances, refine=refine)
        return make_adapter(*adapter, device, time_limit_s)
    if time_limit_s is not None:
        raise InputError(f"make_segmenter(time_limit_s={time_limit_s:g}): {name_or_path!r} runs in this process")
    if ":" in name_or_path and not name_or_path.endswith((".safetensors", ".pt")):
        kind: type[Segmenter] = load_class(name_or_path, Segmenter, "segmenter")  # type: ignore[type-abstract]
        return build(kind, name_or_path, "segmenter")
    if name_or_path == "geodesic":
        _refuse_engine_options(name_or_path, mode=mode, planes=planes, zoom=zoom, distances=distances, refine=refine)
        from synthfm_env.segmenters.geodesic import Geodesic

        return Geodesic()
    from synthfm_env.segmenters.volume_network.weights import EMBEDDED, holds_volume_network

    if name_or_path in EMBEDDED or holds_volume_network(Path(name_or_path)):
        from synthfm_env.segmenters.devices import pick_device
        from synthfm_env.segmenters.volume_network.segmenter import load_volume_network

        return load_volume_network(name_or_path, pick_device(device))
    if name_or_path not in _DESCRIPTIONS and not name_or_path.endswith((".safetensors", ".pt")):
        raise unknown_name("segmenter", name_or_path, _DESCRIPTIONS)
    if mode not in ("auto", "fast", "exact"):
        raise InputError(f"make_segmenter(mode={mode!r}): expected 'auto', 'fast' or 'exact'")
    if planes not in (None, 1, 3):
        raise InputError(f"make_segmenter(planes={planes!r}): expected 1 or 3")
    # Imported here, because torch and sam2 take seconds and the other segmenters need neither.
    from synthfm_env.segmenters.devices import pick_device
    from synthfm_env.segmenters.sam2 import SAM2Segmenter, load_refiner, load_weights, trained_here

    closely = mode == "auto" and trained_here(name_or_path)
    distances = closely if distances is None else distances
    if refine and not distances:
        raise InputError(
            f"make_segmenter(refine={refine!r}) needs distances=True: the refiner reads distances to the clicks"
        )
    refine = closely and distances if refine is None else refine
    where = pick_device(device)
    return SAM2Segmenter(
        name_or_path,
        load_weights(name_or_path),
        where,
        "exact" if mode == "exact" else "fast",
        planes=planes or (3 if closely else 1),
        zoom=closely if zoom is None else zoom,
        distances=distances,
        refiner=load_refiner(Path(refine) if isinstance(refine, str) else None).to(where) if refine else None,
    )


def _refuse_engine_options(name: str, **options: object) -> None:
    """Raise InputError for an option of SAM 2's engine that was given to another segmenter."""
    for option, value in options.items():
        if value not in (None, "auto"):
            raise InputError(f"make_segmenter({option}={value!r}): {name!r} takes none, it is SAM 2's; leave it out")
