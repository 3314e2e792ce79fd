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
