"""Resamples cases to one grid without use of the label, and scores masks on the native grid."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from synthfm_env.arguments import are_lengths
from synthfm_env.errors import InputError
from synthfm_env.memory_limit import check_memory
from synthfm_env.printable import shown

Vector = tuple[float, float, float]
Shape = tuple[int, int, int]

LEAST_MM: Final = 1e-6
"""Smallest spacing of a grid, in mm."""

MOST_MM: Final = 1e3
"""Largest spacing of a grid, in mm; a coarser one would be smoothed over millions of voxels."""

_BYTES_PER_VOXEL: Final = 32  # of the grid, while image and label are resampled


@dataclass(frozen=True, slots=True)
class FixedGrid:
    """A grid of one spacing and shape, centred on every image.

    Voxels of the image outside the grid are cropped; voxels of the grid outside the image are 0.

    Args:
        spacing: voxel size (z, y, x) in mm.
        shape: (D, H, W).

    Raises:
        InputError: a spacing or a shape that is not three positive numbers.

    Example:
        >>> grid = FixedGrid((2.0, 2.0, 2.0), (4, 4, 4))
        >>> grid.resample_label(np.ones((4, 8, 8), np.int16), (2.0, 1.0, 1.0)).shape
        (4, 4, 4)
    """

    spacing: Vector
    shape: Shape

    @classmethod
    def of(cls, spacing: Sequence[float], shape: Sequence[int]) -> "FixedGrid":
        """Return the grid of a spacing (z, y, x) in mm and a shape (D, H, W), given as any sequences.

        Raises:
            MemoryLimitError: resampling to the grid would exceed the limit on memory.
            InputError: a spacing or a shape that is not as above, or a spacing out of range.
        """
        if not are_lengths(spacing):
            raise InputError(f"spacing is {shown(spacing)}: expected three lengths above 0, z, y, x in mm")
        if min(spacing) < LEAST_MM or max(spacing) > MOST_MM:
            raise InputError(
                f"spacing is {shown(spacing)}: expected lengths from {LEAST_MM:g} to {MOST_MM:g} mm (z, y, x)"
            )
        if not are_lengths(shape) or any(n % 1 for n in shape):
            raise InputError(f"shape is {shown(shape)}: expected three integers above 0, (D, H, W)")
        check_memory(math.prod(int(n) for n in shape) * _BYTES_PER_VOXEL, f"a grid of shape {shown(shape)}")
        z, y, x = (float(mm) for mm in spacing)
        depth, height, width = (int(n) for n in shape)
        return cls((z, y, x), (depth, height, width))

    def resample_image(self, image: NDArray[np.uint8], spacing: Vector) -> NDArray[np.uint8]:
        """Return an image on this grid, by linear interpolation after smoothing along axes that become coarser.

        The smoothing is Gaussian with a standard deviation of (f - 1) / 2 voxels, f being the number of voxels along a
        voxel of the grid, as in scikit-image's ``resize(anti_aliasing=True)``.

        Args:
            image: uint8, on any grid, axes (z, y, x).
            spacing: voxel size of ``image`` (z, y, x) in mm.
        """
        factors = [own / mm for own, mm in zip(self.spacing, spacing, strict=True)]
        sigmas = [max(0.0, (factor - 1) / 2) if n > 1 else 0.0 for factor, n in zip(factors, image.shape, strict=True)]
        smooth = ndimage.gaussian_filter(image.astype(np.float32), sigmas, mode="nearest", truncate=3.0)
        offsets = [self._position(axis, 0, image.shape[axis], spacing[axis]) for axis in range(3)]
        moved = ndimage.affine_transform(
            smooth, np.array(factors), offsets, output_shape=self.shape, order=1, mode="nearest"
        )
        return np.where(self._inside(image.shape, spacing), np.rint(moved), 0).astype(np.uint8)

    def resample_label(self, label: NDArray[np.integer], spacing: Vector) -> NDArray[np.integer]:
        """Return a label map on this grid: of each voxel's centre, the label of the nearest voxel.

        It is int16 if the ids fit, else of the type of ``label``.

        Args:
            label: integers on any grid, axes (z, y, x).
            spacing: voxel size of ``label`` (z, y, x) in mm.
        """
        sources = [self._sources(axis, label.shape[axis], spacing[axis]) for axis in range(3)]
        nearest = label[np.ix_(*(source.clip(0) for source in sources))]
        small = np.iinfo(np.int16)
        fits = small.min <= nearest.min() and nearest.max() <= small.max
        return np.where(self._inside(label.shape, spacing), nearest, 0).astype(np.int16 if fits else label.dtype)

    def targets(self, shape: Sequence[int], spacing: Vector) -> list[NDArray[np.int64]]:
        """Return, for each axis, the index on this grid of each native voxel; -1 for those outside."""
        indices = []
        for axis in range(3):
            n, mm = shape[axis], spacing[axis]
            middle = (np.arange(n) - (n - 1) / 2) * mm / self.spacing[axis] + (self.shape[axis] - 1) / 2
            index = np.floor(middle + 0.5).astype(np.int64)
            indices.append(np.where((index >= 0) & (index < self.shape[axis]), index, -1))
        return indices

    def _position(self, axis: int, index: int, n: int, mm: float) -> float:
        """Return where a voxel of this grid is, in voxels of a native axis of ``n`` voxels of ``mm``."""
        return (index - (self.shape[axis] - 1) / 2) * self.spacing[axis] / mm + (n - 1) / 2

    def _sources(self, axis: int, n: int, mm: float) -> NDArray[np.int64]:
        """Return the nearest native voxel of each voxel of this grid along an axis; -1 beyond the image."""
        first, step = self._position(axis, 0, n, mm), self.spacing[axis] / mm
        index = np.floor(first + step * np.arange(self.shape[axis]) + 0.5).astype(np.int64)
        return np.where((index >= 0) & (index < n), index, -1)

    def _inside(self, shape: Sequence[int], spacing: Vector) -> NDArray[np.bool_]:
        """Return the voxels of the grid whose centres are in the image, bool (D, H, W)."""
        z, y, x = (self._sources(axis, shape[axis], spacing[axis]) >= 0 for axis in range(3))
        return np.asarray(z[:, None, None] & y[:, None] & x)


@dataclass(frozen=True, slots=True, eq=False)
class NativeTruth:
    """Counts of a structure per voxel of a fixed grid, from which Dice on the native grid is computed.

    A native voxel belongs to a mask if the nearest voxel of the fixed grid does, and to none outside the grid. So
    native Dice follows from counts, without a mask on the native grid.

    Attributes:
        corner: (z, y, x) of the first voxel of ``counts``.
        counts: unsigned integers, how many native voxels of the structure are nearest to each voxel of a part of the
            grid; 0 elsewhere.
        voxels: for each axis of the grid, how many native voxels are nearest to each index.
        total: native voxels of the structure, including those outside the grid.
    """

    corner: Shape
    counts: NDArray[np.unsignedinteger]
    voxels: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
    total: int

    def dice(self, mask: NDArray[np.bool_]) -> float:
        """Return Dice on the native grid, in [0, 1], of a mask on the fixed grid, bool (D, H, W)."""
        part = tuple(slice(at, at + n) for at, n in zip(self.corner, self.counts.shape, strict=True))
        common = int(np.sum(self.counts, where=mask[part], dtype=np.int64))
        z, y, x = self.voxels
        size = float(((mask.astype(np.float64) @ x) @ y) @ z)
        return float(2 * common / (size + self.total))


def count_native(
    grid: FixedGrid, label: NDArray[np.integer], spacing: Vector, structure: int
) -> tuple[Shape, NDArray[np.unsignedinteger], int]:
    """Return corner, counts and total of ``NativeTruth`` for a structure.

    Args:
        grid: the fixed grid.
        label: integers on the native grid, axes (z, y, x).
        spacing: voxel size of ``label`` (z, y, x) in mm.
        structure: label id.
    """
    places = np.nonzero(label == structure)
    targets = [axis[place] for axis, place in zip(grid.targets(label.shape, spacing), places, strict=True)]
    inside = np.logical_and.reduce([target >= 0 for target in targets])
    z, y, x = (target[inside] for target in targets)
    if not len(z):
        return (0, 0, 0), np.zeros((0, 0, 0), np.uint8), len(places[0])
    corner = (int(z.min()), int(y.min()), int(x.min()))
    size = tuple(int(axis.max()) - first + 1 for axis, first in zip((z, y, x), corner, strict=True))
    flat = np.ravel_multi_index((z - corner[0], y - corner[1], x - corner[2]), size)
    counts = np.bincount(flat, minlength=int(np.prod(size))).reshape(size)
    return corner, counts.astype(np.min_scalar_type(int(counts.max()))), len(places[0])


def native_voxels(
    grid: FixedGrid, shape: Sequence[int], spacing: Vector
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return ``NativeTruth.voxels`` for a native grid of this shape and spacing (z, y, x) in mm."""
    z, y, x = (
        np.bincount(target[target >= 0], minlength=n)
        for target, n in zip(grid.targets(shape, spacing), grid.shape, strict=True)
    )
    return z, y, x
