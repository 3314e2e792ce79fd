"""Computes the overlap of a mask and the truth: Dice and IoU."""

import numpy as np
from numpy.typing import NDArray

from synthfm_env.errors import InputError


def dice(a: NDArray, b: NDArray) -> float:
    """Return 2|A∩B| / (|A|+|B|), in [0, 1] (Dice 1945): 1 if both are empty, 0 if one is.

    Args:
        a: mask of any shape; non-zero is inside.
        b: mask of the same shape.

    Raises:
        InputError: the shapes differ.

    Example:
        >>> import numpy as np
        >>> round(dice(np.array([1, 1, 0], bool), np.array([1, 0, 0], bool)), 3)
        0.667
    """
    common, size_a, size_b = _overlap("dice", a, b)
    return 2 * common / (size_a + size_b) if size_a + size_b else 1.0


def iou(a: NDArray, b: NDArray) -> float:
    """Return |A∩B| / |A∪B|, in [0, 1] (Jaccard 1912): 1 if both are empty, 0 if one is.

    Args:
        a: mask of any shape; non-zero is inside.
        b: mask of the same shape.

    Raises:
        InputError: the shapes differ.

    Example:
        >>> import numpy as np
        >>> iou(np.array([1, 1, 0], bool), np.array([1, 0, 0], bool))
        0.5
    """
    common, size_a, size_b = _overlap("iou", a, b)
    union = size_a + size_b - common
    return common / union if union else 1.0


def _overlap(name: str, a: NDArray, b: NDArray) -> tuple[int, int, int]:
    """Return the number of voxels in both masks, in ``a`` and in ``b``."""
    if np.shape(a) != np.shape(b):
        raise InputError(f"{name}: the masks differ in shape: {np.shape(a)} and {np.shape(b)}")
    inside_a, inside_b = np.asarray(a, dtype=bool), np.asarray(b, dtype=bool)
    common = np.count_nonzero(inside_a & inside_b)
    return int(common), int(np.count_nonzero(inside_a)), int(np.count_nonzero(inside_b))
