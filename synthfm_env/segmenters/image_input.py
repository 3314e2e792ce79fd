"""Checks the image and the spacing that a segmenter gets, and scales the image to 8 bits."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from synthfm_env.arguments import are_lengths, check_array
from synthfm_env.errors import InputError
from synthfm_env.printable import shown
from synthfm_env.volumes.intensity import LUMA, check_intensities, to_uint8


def check_spacing(spacing: Sequence[float], what: str) -> None:
    """Raise InputError unless a spacing is three positive lengths.

    Args:
        spacing: (z, y, x) in mm; whole numbers are lengths too.
        what: begins the message.
    """
    if not are_lengths(spacing):
        raise InputError(f"{what}: spacing (z, y, x) must be three positive lengths in mm, got {shown(spacing)}")


def prepare_image(image: NDArray, spacing: Sequence[float]) -> NDArray[np.uint8]:
    """Check an image and its spacing, and return the image in 8 bits.

    Args:
        image: (D, H, W) grey or (D, H, W, 3) RGB, axes (z, y, x). uint8 is taken as it is; any other real
            dtype is scaled as ``volumes.to_uint8(image, "other")`` does, RGB by one window for all three
            channels.
        spacing: (z, y, x) in mm.

    Returns:
        uint8, the shape of ``image``. It shares memory with ``image`` if that is uint8.

    Raises:
        InputError: an empty image, another number of axes, NaN or infinite voxels, a spacing that is not
            three positive lengths.
    """
    check_array(image, "start: the image")
    if image.ndim == 2:
        raise InputError(
            f"start: the image has two axes, shape {image.shape}; "
            "give a 2D image as a volume of one slice: image[numpy.newaxis]"
        )
    if image.ndim != 3 and not (image.ndim == 4 and image.shape[-1] == 3):
        raise InputError(
            f"start: expected an image of shape (D, H, W) or (D, H, W, 3), axes (z, y, x), got {image.shape}"
        )
    check_intensities(image, "start: the image")
    check_spacing(spacing, "start")
    return to_uint8(image, "other")


def prepare_grey(image: NDArray, spacing: Sequence[float]) -> NDArray[np.uint8]:
    """Check an image and its spacing as ``prepare_image``, and return the image in 8 bits and grey, uint8 (D, H, W).

    Raises:
        InputError: as ``prepare_image``.
    """
    prepared = prepare_image(image, spacing)
    return prepared if prepared.ndim == 3 else np.rint(prepared @ LUMA).astype(np.uint8)
