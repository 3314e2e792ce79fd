"""Scores of a mask against the truth, and of a sequence of scores."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from synthfm_env.errors import InputError


def dice(a: NDArray, b: NDArray) -> float:
    """Return 2|A∩B| / (|A|+|B|), in [0, 1] (Dice 1945): 1 where both are empty, 0 where one is.

    Args:
        a: mask of any shape; non-zero is inside.
        b: mask of the same shape.

    Raises:
        InputError: the shapes differ.
    """
    common, size_a, size_b = _overlap("dice", a, b)
    return 2 * common / (size_a + size_b) if size_a + size_b else 1.0


def iou(a: NDArray, b: NDArray) -> float:
    """Return |A∩B| / |A∪B|, in [0, 1] (Jaccard 1912): 1 where both are empty, 0 where one is.

    Args:
        a: mask of any shape; non-zero is inside.
        b: mask of the same shape.

    Raises:
        InputError: the shapes differ.
    """
    common, size_a, size_b = _overlap("iou", a, b)
    union = size_a + size_b - common
    return common / union if union else 1.0


def normalised_auc(scores: Sequence[float] | NDArray) -> float:
    """Return the area under the curve of a score over clicks 1..K, divided by its greatest value, K-1.

    The area is the trapezoid's: ``(s1/2 + s2 + ... + sK/2) / (K-1)``. The CVPR 2025 challenge on
    interactive 3D segmentation sums its five Dice values so, but does not divide: its figure is four times
    this one. One score is its own area. The area is comparable only between equal K: an episode that stopped
    early has to be filled up with its last score by the caller.

    Args:
        scores: Dice, or any other score in [0, 1], after click 1, 2, ... K.

    Returns:
        A number in [0, 1]: 0 for all zeros, 1 for all ones.

    Raises:
        InputError: no score, or one that is not in [0, 1].
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or values.size == 0 or not ((values >= 0) & (values <= 1)).all():
        raise InputError(f"normalised_auc: expected one or more scores in [0, 1], one a click, got {scores}")
    if values.size == 1:
        return float(values[0])
    return float(min(1.0, np.trapezoid(values) / (values.size - 1)))


def _overlap(name: str, a: NDArray, b: NDArray) -> tuple[int, int, int]:
    if np.shape(a) != np.shape(b):
        raise InputError(f"{name}: the masks differ in shape: {np.shape(a)} and {np.shape(b)}")
    inside_a, inside_b = np.asarray(a, dtype=bool), np.asarray(b, dtype=bool)
    common = np.count_nonzero(inside_a & inside_b)
    return int(common), int(np.count_nonzero(inside_a)), int(np.count_nonzero(inside_b))
