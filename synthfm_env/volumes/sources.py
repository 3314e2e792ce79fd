"""Volumes from a description that JSON can hold, so that a recorded environment can be made again."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthfm_env.arguments import check_name
from synthfm_env.errors import InputError, unknown_name
from synthfm_env.volumes.bundled import bundled_volume
from synthfm_env.volumes.datasets import get_layout
from synthfm_env.volumes.intensity import to_uint8
from synthfm_env.volumes.nifti import load_volume
from synthfm_env.volumes.volume import Volume

_KEYS = ("bundled", "image", "label", "modality", "layout", "path", "part", "image_id", "structures", "slice", "slices")


def open_source(source: Mapping[str, Any]) -> Volume:
    """Return the volume that a description names.

    Args:
        source: ``{"bundled": NAME}``; ``{"image": PATH, "label": PATH, "modality": NAME or None}``; or
            ``{"layout": NAME, "path": FOLDER, "part": NAME or None, "image_id": ID, "structures": [...]}``, in which
            ``image_id`` and ``structures`` may be left out: the first image, every structure. Each may have
            ``"slice": z``, and beside it ``"slices": count`` for a clip, see ``slice_of``.

    Raises:
        InputError: an unknown key, no such image or slice, or a volume that cannot be read.

    Example:
        >>> open_source({"bundled": "mni152", "slice": 40}).image.shape[0]  # needs the extra `real`
        1
    """
    for key in source:
        check_name("key of a volume's description", key, _KEYS)
    if "bundled" in source:
        volume = bundled_volume(source["bundled"])
    elif "layout" in source:
        volume = _of_data_set(source)
    elif "image" in source:
        volume = load_volume(source["image"], source.get("label"), modality=source.get("modality"))
    else:
        raise InputError(f"a volume's description needs one of 'bundled', 'image' or 'layout'; got {', '.join(source)}")
    z = source.get("slice")
    return volume if z is None else slice_of(volume, z, source.get("slices", 1))


def _of_data_set(source: Mapping[str, Any]) -> Volume:
    layout = get_layout(source["layout"])
    root = Path(source.get("path", "."))
    items = {item.image_id: item for item in layout.items(root, source.get("part"))}
    image_id = source.get("image_id") or next(iter(items))
    if image_id not in items:
        raise InputError(f"{root}: {unknown_name('image', image_id, items)}")
    return layout.load(items[image_id], source.get("structures") or ())


def slice_of(volume: Volume, z: int, count: int = 1) -> Volume:
    """Return one slice of a volume as an image, or a clip, with the 8-bit grey levels that it has in the whole volume.

    The window or the percentiles of ``to_uint8`` come from the whole volume, as in MedSAM's preprocessing.

    Args:
        volume: of any depth.
        z: index of the slice, of a clip the first.
        count: slices; fewer if the volume ends before.

    Returns:
        A volume (count, H, W), its image uint8.

    Raises:
        InputError: there is no such slice.
    """
    depth = volume.image.shape[0]
    if not 0 <= z < depth:
        raise InputError(f"{volume.case_id}: slice {z} is not there; z must be 0 to {depth - 1}")
    affine = None
    if volume.affine is not None:
        affine = volume.affine.copy()
        affine[:3, 3] += z * volume.affine[:3, 2]
    image: NDArray[Any] = to_uint8(volume.image, volume.modality)[z : z + count]
    label = None if volume.label is None else volume.label[z : z + count]
    return replace(volume, image=image, label=label, affine=affine, metadata=volume.metadata | {"slice": z})


def clips_with(truth: NDArray[np.bool_], count: int, least_pixels: int) -> list[int]:
    """Return the first slices of the clips of a volume in which a structure counts.

    Clips follow one another from the first slice on. The last one ends with the volume, and overlaps with the clip
    before it if the depth is no multiple of ``count``. A clip counts if one of its slices does, see ``slices_with``.

    Args:
        truth: bool (D, H, W).
        count: slices of a clip.
        least_pixels: a slice counts if it has at least so many pixels of the structure.

    Example:
        >>> truth = np.zeros((10, 4, 4), bool)
        >>> truth[5:9] = True
        >>> clips_with(truth, 4, least_pixels=1)
        [4, 6]
    """
    depth = len(truth)
    area = np.count_nonzero(truth, axis=(1, 2))
    starts = dict.fromkeys(min(z, max(0, depth - count)) for z in range(0, depth, count))
    return [z for z in starts if area[z : z + count].max() >= least_pixels]


def slices_with(truth: NDArray[np.bool_], rule: str, least_pixels: int, most: int | None) -> list[int]:
    """Return the slices of a volume in which a structure counts.

    Args:
        truth: bool (D, H, W).
        rule: "each": every slice that counts; "largest": the one with most pixels, the lowest of several; "middle": the
            middle one of those that count, the later of two.
        least_pixels: a slice counts if it has at least so many pixels of the structure.
        most: of "each" at most so many, evenly chosen; None for all.
    """
    area = np.count_nonzero(truth, axis=(1, 2))
    counting = np.flatnonzero(area >= least_pixels)
    if not counting.size:
        return []
    if rule == "largest":
        return [int(area.argmax())]
    if rule == "middle":
        return [int(counting[counting.size // 2])]
    if most is not None and most < counting.size:
        counting = counting[np.linspace(0, counting.size - 1, most).round().astype(int)]
    return [int(z) for z in counting]
