"""Reads volumes from descriptions that JSON can hold, so that a recorded environment can be made again."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synthfm_env.arguments import check_name
from synthfm_env.errors import InputError, unknown_name
from synthfm_env.volumes.bundled import bundled_volume
from synthfm_env.volumes.datasets import get_layout
from synthfm_env.volumes.nifti import load_volume
from synthfm_env.volumes.slices import slice_of
from synthfm_env.volumes.volume import Volume

_KEYS = ("bundled", "image", "label", "modality", "layout", "path", "part", "image_id", "structures", "slice", "slices")


def open_described(description: Mapping[str, Any]) -> Volume:
    """Return the volume that a description names.

    Args:
        description: ``{"bundled": NAME}``; ``{"image": PATH, "label": PATH, "modality": NAME or None}``; or
            ``{"layout": NAME, "path": FOLDER, "part": NAME or None, "image_id": ID, "structures": [...]}``, in which
            ``image_id`` and ``structures`` may be left out: the first image, every structure. Each may have
            ``"slice": z``, and with it ``"slices": count`` for a clip, see ``slice_of``.

    Raises:
        InputError: an unknown key, no such image or slice, or a volume that cannot be read.

    Example:
        >>> open_described({"bundled": "mni152", "slice": 40}).image.shape[0]  # needs the extra `real`
        1
    """
    for key in description:
        check_name("key of a volume's description", key, _KEYS)
    if "bundled" in description:
        volume = bundled_volume(description["bundled"])
    elif "layout" in description:
        volume = _from_data_set(description)
    elif "image" in description:
        volume = load_volume(description["image"], description.get("label"), modality=description.get("modality"))
    else:
        raise InputError(
            f"a volume's description needs one of 'bundled', 'image' or 'layout'; got {', '.join(description)}"
        )
    z = description.get("slice")
    return volume if z is None else slice_of(volume, z, description.get("slices", 1))


def _from_data_set(description: Mapping[str, Any]) -> Volume:
    """Read an image of a data set by its id, or the first one."""
    layout = get_layout(description["layout"])
    root = Path(description.get("path", "."))
    items = {item.image_id: item for item in layout.items(root, description.get("part"))}
    image_id = description.get("image_id") or next(iter(items))
    if image_id not in items:
        raise InputError(f"{root}: {unknown_name('image', image_id, items)}")
    return layout.load(items[image_id], description.get("structures") or ())
