"""Computes scores of an episode from the scores after each of its clicks."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from synthfm_env.errors import InputError


def normalised_auc(scores: Sequence[float] | NDArray) -> float:
    """Return the area under the curve of a score over clicks 1..K, divided by its greatest value, K-1.

    The area is the trapezoid's: ``(s1/2 + s2 + ... + sK/2) / (K-1)``. The CVPR 2025 challenge on
    interactive 3D segmentation computes the same sum of five Dice values and does not divide: its figure is four
    times this one. For a single score the result is that score. Areas are comparable for equal K only: for an episode
    that stopped early, the caller repeats the last score.

    Args:
        scores: Dice, or any other score in [0, 1], after click 1, 2, ... K.

    Returns:
        A number in [0, 1]: 0 for all zeros, 1 for all ones.

    Raises:
        InputError: no score, or one that is not in [0, 1].

    Example:
        >>> normalised_auc([0.5, 0.7, 0.9])
        0.7
    """
    values = _checked("normalised_auc", scores)
    if values.size == 1:
        return float(values[0])
    return float(min(1.0, np.trapezoid(values) / (values.size - 1)))


def clicks_to_target(scores: Sequence[float] | NDArray, target: float) -> int | None:
    """Return the number of clicks until the target is reached (RITM's NoC), or None if it never is.

    Papers that count K instead of None make a segmenter that fails look like a slow one. Report the share of episodes
    that reached the target with every mean over them.

    Args:
        scores: Dice, or any other score in [0, 1], after click 1, 2, ... K.
        target: a score in (0, 1]; reached is at least this.

    Raises:
        InputError: a target out of its range; no score, or one that is not in [0, 1].

    Example:
        >>> clicks_to_target([0.5, 0.7, 0.9], target=0.7)
        2
    """
    if not 0 < target <= 1:
        raise InputError(f"clicks_to_target: the target is {target}, expected a score above 0 and up to 1")
    reached = np.flatnonzero(_checked("clicks_to_target", scores) >= target)
    return int(reached[0]) + 1 if reached.size else None


def worst_drop(scores: Sequence[float] | NDArray) -> float:
    """Return the largest loss of score by a single click, in [0, 1]; 0 if no click lowered it.

    Args:
        scores: Dice, or any other score in [0, 1], after click 1, 2, ... K.

    Raises:
        InputError: no score, or one that is not in [0, 1].

    Example:
        >>> round(worst_drop([0.5, 0.8, 0.6, 0.9]), 3)
        0.2
    """
    values = _checked("worst_drop", scores)
    return float(max(0.0, -np.diff(values).min(initial=0.0)))


def _checked(name: str, scores: Sequence[float] | NDArray) -> NDArray[np.float64]:
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or values.size == 0 or not ((values >= 0) & (values <= 1)).all():
        raise InputError(f"{name}: expected one or more scores in [0, 1], one a click, got {scores}")
    return values
