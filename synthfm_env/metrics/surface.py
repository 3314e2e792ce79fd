"""Computes surface distances of two masks in mm: NSD and HD95.

The definitions are those of Nikolov et al., "Deep learning to achieve clinically applicable segmentation of head and
neck anatomy" (arXiv 1809.04430), which DeepMind's package ``surface-distance`` made the usual ones. Other packages
count edge voxels instead and differ by up to ten points on small organs.

A surface element sits at every voxel corner whose 2 x 2 x 2 neighbours are neither all inside nor all outside. Its area
is that of the marching-cubes triangles between these neighbours. Its distance is that to the nearest element of the
other surface. Everything beyond the image's edge is outside. In an image of one slice (D = 1) the elements are those of
the contour: 2 x 2 neighbours, and lengths instead of areas.

Values equal the package's within 1e-6, with one exception. Its rounding separates equal distances: an element
3 x 0.1 mm away is not within 0.3 mm, one at 1 x 0.3 mm is. Here both are.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import edt
import numpy as np
from numpy.typing import NDArray

from synthfm_env.errors import InputError
from synthfm_env.geometry import bounding_box


@dataclass(frozen=True, eq=False, slots=True)
class Surfaces:
    """The surface elements of two masks, from which all surface scores follow.

    Attributes:
        distances: of mask a's elements to mask b's surface, and of b's to a's; float32 (n,), in mm. Infinite if the
            other mask is empty.
        areas: of the same elements; float64 (n,), in mm² (mm for a contour).
        spacing: voxel size in mm, along three axes, or two for a contour.

    Example:
        >>> import numpy as np
        >>> truth = np.zeros((8, 16, 16), bool)
        >>> truth[2:6, 4:12, 4:12] = True
        >>> surfaces = Surfaces.between(truth, np.roll(truth, 1, axis=2), spacing=(2.0, 1.0, 1.0))
        >>> float(surfaces.distances[0].max())
        1.0
    """

    distances: tuple[NDArray[np.float32], NDArray[np.float32]]
    areas: tuple[NDArray[np.float64], NDArray[np.float64]]
    spacing: tuple[float, ...]

    @classmethod
    def between(cls, a: NDArray, b: NDArray, spacing: tuple[float, float, float]) -> Self:
        """Compute the surface elements of two masks.

        Args:
            a: mask (D, H, W); non-zero is inside.
            b: mask of the same shape.
            spacing: (z, y, x) in mm.

        Raises:
            InputError: the shapes differ or do not have three axes, or a spacing is not positive.
        """
        if np.ndim(a) != 3 or np.shape(a) != np.shape(b):
            raise InputError(
                f"Surfaces.between: expected two masks (D, H, W) of one shape, got {np.shape(a)} and {np.shape(b)}"
            )
        if len(spacing) != 3 or not all(0 < step < np.inf for step in spacing):
            raise InputError(f"Surfaces.between: expected a spacing (z, y, x) in mm, each above 0, got {spacing}")
        masks = np.asarray(a, dtype=bool), np.asarray(b, dtype=bool)
        steps = tuple(float(step) for step in spacing)
        if masks[0].shape[0] == 1:
            masks, steps = (masks[0][0], masks[1][0]), steps[1:]
        codes = _codes(*masks)
        areas = _areas(steps)
        borders = [(code != 0) & (code != areas.size - 1) for code in codes]
        to_border = [_distance_to(border, steps) for border in borders]
        return cls(
            (to_border[1][borders[0]], to_border[0][borders[1]]),
            (areas[codes[0][borders[0]]], areas[codes[1][borders[1]]]),
            steps,
        )

    def nsd(self, tolerance_mm: float) -> float:
        """Return the share of both surfaces' area that is within a tolerance of the other surface, in [0, 1].

        Raises:
            InputError: the tolerance is negative or not a number.
        """
        if not 0 <= tolerance_mm < np.inf:
            raise InputError(f"nsd: the tolerance is {tolerance_mm}, expected a number of mm, 0 or more")
        total = self.areas[0].sum() + self.areas[1].sum()
        if total == 0:
            return 1.0
        if not self.areas[0].size or not self.areas[1].size:
            return 0.0
        limit = _between_grid_distances(tolerance_mm, self.spacing)
        within = [area[d <= limit].sum() for area, d in zip(self.areas, self.distances, strict=True)]
        return float(sum(within) / total)

    def hausdorff(self, percent: float) -> float:
        """Return the distance in mm within which this share of a surface's area is, the larger of both directions.

        0 if both masks are empty, infinite if one is.

        Args:
            percent: 100 for the Hausdorff distance itself, 95 for HD95.

        Raises:
            InputError: the percentage is not in (0, 100].
        """
        if not 0 < percent <= 100:
            raise InputError(f"hausdorff: the percentage is {percent}, expected one above 0 and up to 100")
        pairs = zip(self.distances, self.areas, strict=True)
        return max(_percentile(distances, areas, percent) for distances, areas in pairs)


def nsd(a: NDArray, b: NDArray, spacing: tuple[float, float, float], tolerance_mm: float) -> float:
    """Return the normalised surface Dice: the share of both surfaces' area within a tolerance of the other surface.

    1 if both masks are empty, 0 if one is.

    Args:
        a: mask (D, H, W); non-zero is inside.
        b: mask of the same shape.
        spacing: (z, y, x) in mm.
        tolerance_mm: distance in mm up to which two surfaces count as the same.

    Returns:
        A number in [0, 1].

    Raises:
        InputError: shapes, spacing or tolerance are not as above.

    Example:
        >>> import numpy as np
        >>> truth = np.zeros((8, 16, 16), bool)
        >>> truth[2:6, 4:12, 4:12] = True
        >>> nsd(np.roll(truth, 1, axis=2), truth, spacing=(2.0, 1.0, 1.0), tolerance_mm=1.0)
        1.0
    """
    return Surfaces.between(a, b, spacing).nsd(tolerance_mm)


def hd95(a: NDArray, b: NDArray, spacing: tuple[float, float, float]) -> float:
    """Return the 95th percentile of the distances between two surfaces in mm, the larger of both directions.

    0 if both masks are empty, infinite if one is: leave infinite values out of a mean, and count them.

    Args:
        a: mask (D, H, W); non-zero is inside.
        b: mask of the same shape.
        spacing: (z, y, x) in mm.

    Raises:
        InputError: shapes or spacing are not as above.

    Example:
        >>> import numpy as np
        >>> truth = np.zeros((8, 16, 16), bool)
        >>> truth[2:6, 4:12, 4:12] = True
        >>> hd95(np.roll(truth, 3, axis=2), truth, spacing=(2.0, 1.0, 1.0))
        3.0
    """
    return Surfaces.between(a, b, spacing).hausdorff(95)


def _codes(*masks: NDArray[np.bool_]) -> list[NDArray[np.uint8]]:
    """Return a code for every voxel corner, cropped to the masks: bit k is set if its k-th neighbour is inside.

    Corner i is between voxels i - 1 and i.
    """
    box = bounding_box(masks[0] | masks[1]) or (slice(0, 0),) * masks[0].ndim
    codes = []
    for mask in masks:
        code = np.pad(mask[box], 1).view(np.uint8)
        for axis in reversed(range(mask.ndim)):
            along = np.moveaxis(code, axis, 0)
            shift = 1 << (mask.ndim - 1 - axis)
            code = np.moveaxis(along[:-1] | (along[1:] << np.uint8(shift)), 0, axis)
        codes.append(np.ascontiguousarray(code))
    return codes


def _distance_to(border: NDArray[np.bool_], spacing: tuple[float, ...]) -> NDArray[np.float32]:
    if not border.any():
        return np.full(border.shape, np.inf, dtype=np.float32)
    return edt.edt((~border).view(np.uint8), anisotropy=spacing, parallel=1)


@lru_cache(maxsize=16)
def _areas(spacing: tuple[float, ...]) -> NDArray[np.float64]:
    """Return the area of the surface element of each code, 0 for all outside and for all inside."""
    if len(spacing) == 2:
        return _lengths(*spacing)
    areas = np.zeros(256)
    for code, triangles in _triangles().items():
        corner, one, other = np.moveaxis(triangles * np.array(spacing), 1, 0)
        areas[code] = np.linalg.norm(np.cross(one - corner, other - corner), axis=1).sum() / 2
    return areas


def _lengths(height: float, width: float) -> NDArray[np.float64]:
    """Return the length of the contour in each 2 x 2 neighbourhood: lines between the middles of its sides."""
    lengths = np.zeros(16)
    slanted = np.hypot(height, width) / 2
    lengths[[1, 2, 4, 8, 7, 11, 13, 14]] = slanted
    lengths[[6, 9]] = 2 * slanted  # two opposite corners: a line around each
    lengths[[3, 12]] = width
    lengths[[5, 10]] = height
    return lengths


@lru_cache(maxsize=1)
def _triangles() -> dict[int, NDArray[np.float64]]:
    """Return the marching-cubes triangles (n, 3 corners, zyx) of each code on a grid of unit spacing.

    Some of Lorensen and Cline's cases change if inside and outside are swapped. A surface has the same area from both
    sides, so the side with fewer corners decides.
    """
    from skimage.measure import marching_cubes

    triangles = {}
    for code in range(1, 255):
        few = code if code.bit_count() <= 4 else 255 - code
        cube = (few >> np.arange(8) & 1).reshape(2, 2, 2).astype(np.float32)
        corners, faces, _, _ = marching_cubes(cube, 0.5, method="lorensen")
        triangles[code] = corners[faces].astype(np.float64)
    return triangles


def _between_grid_distances(tolerance: float, spacing: tuple[float, ...]) -> float:
    """Return a limit that accepts the same distances as the tolerance does, and that rounding cannot affect.

    Elements are on a grid, so many of them are often exactly at the tolerance, and the rounding of float32 would
    decide about them. The limit is the middle between the largest grid distance within the tolerance and the next one.
    """
    squares = np.zeros(1)
    for step in spacing[:-1]:
        squares = np.add.outer(squares, (np.arange(int(tolerance / step) + 2) * step) ** 2).ravel()
    # Along the last axis only the steps next to the tolerance matter.
    steps = np.floor(np.sqrt(np.maximum(tolerance**2 - squares, 0)) / spacing[-1])
    near = np.add.outer(np.arange(-1, 3), steps)
    distances = np.sqrt(squares + (np.maximum(near, 0) * spacing[-1]) ** 2)
    within = distances <= tolerance
    return float(distances[within].max() + distances[~within].min()) / 2


def _percentile(distances: NDArray[np.float32], areas: NDArray[np.float64], percent: float) -> float:
    if not distances.size:
        return 0.0
    order = np.argsort(distances)
    filled = np.cumsum(areas[order])
    place = int(np.searchsorted(filled / filled[-1], percent / 100))
    return float(distances[order[min(place, order.size - 1)]])
