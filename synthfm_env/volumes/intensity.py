"""Scales intensities from scanner units to the 8 bits that promptable models take."""

import math

import numpy as np
from numpy.typing import NDArray

from synthfm_env.arguments import check_array, check_name
from synthfm_env.errors import InputError
from synthfm_env.volumes.volume import MODALITIES

CT_WINDOW_HU = (-160.0, 240.0)
PERCENTILES = (0.5, 99.5)  # of other images, which become 0 and 255
SAMPLE_SIZE = 1_000_000  # voxels from which the percentiles are computed, about
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # grey of RGB, ITU-R BT.601


def to_uint8(image: NDArray, modality: str) -> NDArray[np.uint8]:
    """Scale an image to 0..255, as MedSAM's preprocessing does (``pre_CT_MR.py``, Ma et al. 2024).

    - uint8 input is returned unchanged for every modality: it counts as windowed already.
    - CT: Hounsfield units, window level 40 and width 400, so -160..240 HU become 0..255. A CT without a
      negative voxel is not in Hounsfield units (it was windowed or shifted before) and is treated as below.
    - All others: the 0.5 to 99.5 percentile of the voxels that are not exactly zero become 0..255. The
      zeros are left out because they are mostly an erased background; they still become 0 if all
      intensities are positive. If both percentiles coincide, the full range is used instead.

    Values beyond the window are clipped, and the result is rounded. The percentiles come from all voxels of
    an image of up to a million values, and from a fixed, evenly spread million of a larger one: the same
    image always gives the same bytes.

    Args:
        image: (D, H, W), axes (z, y, x), or with channels behind them; any real dtype. Not changed.
        modality: one of ``MODALITIES``.

    Returns:
        uint8, the shape of ``image``; ``image`` itself if that is uint8.

    Raises:
        InputError: an unknown modality, no voxels, a dtype that is not real, NaN or infinite voxels.

    Example:
        >>> import numpy as np
        >>> to_uint8(np.array([[[-1000.0, -160.0, 40.0, 240.0]]]), "CT").tolist()
        [[[0, 0, 127, 255]]]
    """
    check_name("modality", modality, MODALITIES)
    check_intensities(image, "to_uint8: the image")
    if image.dtype == np.uint8:
        return image
    if modality == "CT" and image.min() < 0:
        low, high = CT_WINDOW_HU
    else:
        low, high = _percentile_window(image)
    return _scale(image, low, high)


def check_intensities(image: NDArray, what: str) -> None:
    """Raise InputError unless ``image`` is an array with voxels, and all of them are finite real numbers.

    Args:
        image: at least one axis.
        what: begins the message, for example the file's name.
    """
    check_array(image, what)
    if image.size == 0:
        raise InputError(f"{what} has no voxels (shape {image.shape})")
    if image.dtype.kind not in "buif":
        raise InputError(f"{what} has voxels of type {image.dtype}; expected integers or real numbers")
    bad = sum(int(np.count_nonzero(~np.isfinite(part))) for part in image) if image.dtype.kind == "f" else 0
    if bad:
        raise InputError(
            f"{what} has {bad} voxels that are NaN or infinite; give them a number first, "
            "for example with numpy.nan_to_num"
        )


def spread_sample(image: NDArray) -> NDArray:
    """Return at most about a million voxels, evenly spread over the image and always the same ones."""
    step = max(1, image.size // SAMPLE_SIZE)
    # A step that shares a factor with the length of a row or slice would visit the same columns in each.
    while math.gcd(step, image.size) > 1:
        step += 1
    return image.reshape(-1)[::step]


def guess_modality(image: NDArray) -> str:
    """Return "CT" if the voxels are whole numbers that reach down to -500 or below, as air does in HU; else "other".

    Args:
        image: (D, H, W), axes (z, y, x), in the scanner's units.
    """
    sample = spread_sample(image)
    return "CT" if image.min() <= -500 and np.array_equal(sample, np.rint(sample)) else "other"


def _percentile_window(image: NDArray) -> tuple[float, float]:
    """Return the 0.5 and 99.5 percentile of voxels that are not zero; if these are equal, least and greatest voxel."""
    sample = spread_sample(image)
    nonzero = sample[sample != 0]
    if nonzero.size:
        low, high = np.percentile(nonzero.astype(np.float64), PERCENTILES)
        if low < high:
            return float(low), float(high)
    return float(image.min()), float(image.max())


def _scale(image: NDArray, low: float, high: float) -> NDArray[np.uint8]:
    """Map ``low`` to 0 and ``high`` to 255, as uint8; all zeros if they are equal."""
    out = np.zeros(image.shape, dtype=np.uint8)
    if low < high:
        for part, target in zip(image, out, strict=True):  # slice by slice, to avoid a float copy of a volume
            scaled = np.subtract(part, low, dtype=np.float64)
            scaled *= 255 / (high - low)
            target[...] = np.rint(scaled.clip(0, 255))
    return out
