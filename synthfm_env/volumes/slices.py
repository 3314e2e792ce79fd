"""Selects slices and clips of volumes in which a structure is large enough to count."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthfm_env.errors import InputError
from synthfm_env.volumes.intensity import to_uint8
from synthfm_env.volumes.volume import Volume


def slice_of(volume: Volume, z: int, count: int = 1) -> Volume:
    """Return a slice of a volume as an image, or a clip of slices, in 8 bits as in the whole volume.

    The window or the percentiles of ``to_uint8`` come from the whole volume, as in MedSAM's preprocessing.

    Args:
        volume: of any depth.
        z: index of the slice, or of the first one of a clip.
        count: number of slices; the result has fewer at the end of the volume.

    Returns:
        A volume of the grid (count, H, W), its image uint8.

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
    """Return the first slice of each clip of a volume in which a structure is large enough to count.

    Clips follow one another from the first slice on. The last one ends with the volume, and overlaps with the clip
    before it if the depth is no multiple of ``count``. A clip counts if one of its slices does, see ``slices_with``.

    Args:
        truth: bool (D, H, W).
        count: slices of a clip.
        least_pixels: pixels of the structure in a slice that counts, at least.

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
    """Return the slices of a volume in which a structure is large enough to count.

    Args:
        truth: bool (D, H, W).
        rule: "each": every slice that counts; "largest": the one with most pixels, the lowest of several; "middle": the
            middle one of those that count, the later of two.
        least_pixels: pixels of the structure in a slice that counts, at least.
        most: largest number of slices of "each", which are then spread evenly; None for all.
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
