"""Interpolates arrays linearly along one axis."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def interpolate_along(array: NDArray[Any], places: NDArray[np.float64], axis: int) -> NDArray[np.float32]:
    """Interpolate linearly along one axis at fractional indices; beyond the ends the outermost values hold.

    Args:
        array: any number of axes.
        places: (n,), indices along the axis.
        axis: the axis, which then has the length n.

    Example:
        >>> interpolate_along(np.array([0, 10, 20]), np.array([-1.0, 0.5, 2.0]), 0).tolist()
        [0.0, 5.0, 20.0]
    """
    places = np.clip(places, 0, array.shape[axis] - 1)
    below = places.astype(np.intp)
    above = np.minimum(below + 1, array.shape[axis] - 1)
    low, high = (np.take(array, index, axis).astype(np.float32, copy=False) for index in (below, above))
    weights = (places - below).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(array.ndim)])
    return np.asarray(low + weights * (high - low))
