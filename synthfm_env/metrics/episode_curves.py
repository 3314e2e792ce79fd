"""Scores of an episode: of the row of scores that its clicks led to."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from synthfm_env.errors import InputError


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

    Example:
        >>> normalised_auc([0.5, 0.7, 0.9])
        0.7
    """
    values = _checked("normalised_auc", scores)
    if values.size == 1:
        return float(values[0])
    return float(min(1.0, np.trapezoid(values) / (values.size - 1)))


def clicks_to_target(scores: Sequence[float] | NDArray, target: float) -> int | None:
    """Return how many clicks the target took (RITM's NoC), None where it was never reached.

    None is not a number of clicks: papers that count K for it make a segmenter that fails look like one that
    is slow. Give the share of episodes that reached the target beside any mean over those that did.

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
    """Return by how much the worst single click lowered the score: in [0, 1], 0 where no click did.

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
