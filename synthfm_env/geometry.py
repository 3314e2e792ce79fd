"""Computes crops and indices of grids with the axes (z, y, x)."""

import numpy as np
from numpy.typing import NDArray

Crop = tuple[slice, slice, slice]  # a half-open box of voxels, one slice for each axis
# A stack of fewer slices is thin: planes across it show no shapes, and its first and last slices are not the border
# of the structures in it.
FEWEST_SLICES = 8


def bounding_box(mask: NDArray[np.bool_], margin: int = 0) -> tuple[slice, ...] | None:
    """Return the tight bounding box of a mask as one slice for each axis, or None for an empty mask.

    Args:
        mask: bool, any number of axes.
        margin: voxels to add on every side, within the grid.

    Example:
        >>> mask = np.zeros((4, 5), dtype=bool)
        >>> mask[1, 2:4] = True
        >>> bounding_box(mask), bounding_box(mask, margin=1)
        ((slice(1, 2, None), slice(2, 4, None)), (slice(0, 3, None), slice(1, 5, None)))
    """
    box: list[slice] = []
    for axis in range(mask.ndim):
        # Earlier axes are cropped already, so each pass reads less.
        rest = mask[tuple(box)]
        filled = np.flatnonzero(rest.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        if not filled.size:
            return None
        box.append(slice(int(filled[0]), int(filled[-1]) + 1))
    return tuple(
        slice(max(0, side.start - margin), min(length, side.stop + margin))
        for side, length in zip(box, mask.shape, strict=True)
    )


def spread_indices(length: int, most: int) -> NDArray[np.int64]:
    """Return at most ``most`` of ``length`` indices: the middles of as many equal parts of the axis.

    Example:
        >>> spread_indices(10, 5), spread_indices(3, 5)
        (array([1, 3, 5, 7, 9]), array([0, 1, 2]))
    """
    count = min(length, most)
    return np.floor((np.arange(count) + 0.5) * length / count).astype(np.int64)
