"""Where on a grid something lies."""

import numpy as np
from numpy.typing import NDArray


def bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    """Return the smallest box that holds a mask, a slice an axis; an empty mask has a box without voxels.

    Args:
        mask: bool, any number of axes.
    """
    box: list[slice] = []
    for axis in range(mask.ndim):
        # What the axes before have cut off need not be looked at again.
        rest = mask[tuple(box)]
        filled = np.flatnonzero(rest.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        box.append(slice(int(filled[0]), int(filled[-1]) + 1) if filled.size else slice(0, 0))
    return tuple(box)


def spread_indices(length: int, most: int) -> NDArray[np.int64]:
    """Return at most ``most`` of ``length`` indices: the axis is cut into equal shares, each gives its middle.

    Example:
        >>> spread_indices(10, 5), spread_indices(3, 5)
        (array([1, 3, 5, 7, 9]), array([0, 1, 2]))
    """
    count = min(length, most)
    return np.floor((np.arange(count) + 0.5) * length / count).astype(np.int64)
