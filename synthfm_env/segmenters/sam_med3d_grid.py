"""Maps between an image's grid and SAM-Med3D's grid of 1.5 mm voxels."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthfm_env.interpolation import interpolate_along

TARGET_MM = 1.5  # spacing of the model's grid

Index = tuple[int, int, int]


class TargetGrid:
    """The grid of 1.5 mm voxels over an image. Its first voxel's outer corner is the image's.

    Attributes:
        shape: (d, h, w) of the image.
        lengths: voxels of the target grid along z, y and x that cover the image.
    """

    def __init__(self, shape: tuple[int, ...], spacing: tuple[float, float, float]) -> None:
        """Take the image's grid; spacing (z, y, x) in mm."""
        self.shape = shape
        self._spacing = spacing
        self.lengths = tuple(max(1, round(n * mm / TARGET_MM)) for n, mm in zip(shape, spacing, strict=True))

    def voxel_of(self, zyx: Index) -> Index:
        """Return the target voxel that holds an image voxel's centre."""
        z, y, x = (
            min(int((i + 0.5) * mm / TARGET_MM), n - 1)
            for i, mm, n in zip(zyx, self._spacing, self.lengths, strict=True)
        )
        return z, y, x

    def image_places(self, axis: int, target: NDArray[np.integer]) -> NDArray[np.float64]:
        """Return the centres of target voxels along an axis, in image voxels."""
        return (np.asarray(target) + 0.5) * TARGET_MM / self._spacing[axis] - 0.5

    def target_places(self, axis: int, image: NDArray[np.integer]) -> NDArray[np.float64]:
        """Return the centres of image voxels along an axis, in target voxels."""
        return (np.asarray(image) + 0.5) * self._spacing[axis] / TARGET_MM - 0.5

    def corner_around(self, centre: Index, side: int) -> Index:
        """Return the first voxel of a cube around a target voxel: inside the image if there is room, else centred."""
        z, y, x = (
            (n - side) // 2 if n <= side else min(max(c - side // 2, 0), n - side)
            for c, n in zip(centre, self.lengths, strict=True)
        )
        return z, y, x

    def sample_cube(self, image: NDArray[np.uint8], corner: Index, side: int) -> NDArray[np.float32]:
        """Return a cube of the image at 1.5 mm, sampled linearly; 0 outside the image."""
        cube: NDArray[Any] = image
        for axis in range(3):
            target = corner[axis] + np.arange(side)
            cube = interpolate_along(cube, self.image_places(axis, target), axis)
            outside = (target < 0) | (target >= self.lengths[axis])
            np.moveaxis(cube, axis, 0)[outside] = 0
        return cube

    def native_region(self, corner: Index, side: int) -> tuple[slice, slice, slice]:
        """Return the image voxels whose centres are in a cube."""
        parts = []
        for axis in range(3):
            places = self.target_places(axis, np.arange(self.shape[axis]))
            inside = np.flatnonzero((places >= corner[axis] - 0.5) & (places < corner[axis] + side - 0.5))
            parts.append(slice(int(inside[0]), int(inside[-1]) + 1) if inside.size else slice(0, 0))
        z, y, x = parts
        return z, y, x

    def to_native(
        self, cube: NDArray[np.float32], corner: Index, region: tuple[slice, slice, slice]
    ) -> NDArray[np.float32]:
        """Return a cube's values at the centres of the image voxels of a region, interpolated linearly."""
        for axis in range(3):
            image = np.arange(region[axis].start, region[axis].stop)
            cube = interpolate_along(cube, self.target_places(axis, image) - corner[axis], axis)
        return cube
