"""Averages large volumes over blocks of voxels, and interpolates results back."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from synthfm_env.interpolation import interpolate_along


class BlockGrid:
    """A grid of blocks of voxels with a limited number of blocks; for a small image, the image's own grid.

    Blocks grow by one voxel at a time along the axis on which they are shortest in mm, so that they become isotropic
    first, unless an axis has a limit of its own. The last block of an axis may be smaller than the others.

    Attributes:
        image_shape: (D, H, W) of the image.
        shape: (d, h, w) of the working grid, at most ``max_voxels`` in all.
        sizes: voxels in a block along z, y, x.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        spacing: tuple[float, float, float],
        max_voxels: int,
        max_side: int | None = None,
    ) -> None:
        """Choose the sizes of blocks.

        Args:
            image_shape: (D, H, W) of the image.
            spacing: (z, y, x) in mm.
            max_voxels: most blocks.
            max_side: most blocks along an axis; None for any number.
        """
        sizes = [1 if max_side is None else -(-length // max_side) for length in image_shape]
        shape = [-(-length // size) for length, size in zip(image_shape, sizes, strict=True)]
        while math.prod(shape) > max_voxels:
            divisible = [axis for axis in range(3) if shape[axis] > 1]
            axis = min(divisible, key=lambda axis: sizes[axis] * spacing[axis])
            sizes[axis] += 1
            shape[axis] = -(-image_shape[axis] // sizes[axis])
        self.image_shape = image_shape
        self.sizes = (sizes[0], sizes[1], sizes[2])
        self.shape = (shape[0], shape[1], shape[2])

    def block_of(self, zyx: tuple[int, int, int]) -> tuple[int, ...]:
        """Return the index of the block that contains a voxel."""
        return tuple(i // size for i, size in zip(zyx, self.sizes, strict=True))

    def mean(self, image: NDArray) -> NDArray[np.float32]:
        """Return the mean of each block of a (D, H, W) image."""
        for axis in np.argsort(self.sizes)[::-1]:  # the largest reduction first, which keeps intermediate arrays small
            if self.sizes[axis] > 1:
                starts = np.arange(0, image.shape[axis], self.sizes[axis])
                counts = np.diff(starts, append=image.shape[axis]).astype(np.float32)
                sums = np.add.reduceat(image, starts, axis=axis, dtype=np.float32)
                image = sums / counts.reshape([-1 if other == axis else 1 for other in range(3)])
        return image.astype(np.float32, copy=False)

    def positive(self, values: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Interpolate values of the blocks linearly to the image's grid, and return the voxels above zero.

        Args:
            values: float32 (d, h, w), the working grid.

        Returns:
            bool (D, H, W), the image's grid.
        """
        above = values > 0
        if self.shape == self.image_shape:
            return above
        mask = np.zeros(self.image_shape, dtype=bool)
        if above.any():
            # Voxels above zero are in the box of the positive blocks, or up to one block around it.
            positive_blocks = ndimage.find_objects(above.view(np.int8))[0]
            box = tuple(slice(max(0, part.start - 1), part.stop + 1) for part in positive_blocks)
            (in_z, at_z), (in_y, at_y), (in_x, at_x) = (self._voxels(axis, part) for axis, part in enumerate(box))
            rows = interpolate_along(interpolate_along(values[box], at_z, 0), at_y, 1)
            for out, plane in zip(mask[in_z, in_y, in_x], rows, strict=True):
                np.greater(interpolate_along(plane, at_x, 1), 0, out=out)
        return mask

    def _centres(self, axis: int, blocks: slice) -> NDArray[np.float64]:
        edges = np.minimum(np.arange(blocks.start, blocks.stop + 1) * self.sizes[axis], self.image_shape[axis])
        return np.asarray((edges[:-1] + edges[1:] - 1) / 2)

    def _voxels(self, axis: int, blocks: slice) -> tuple[slice, NDArray[np.float64]]:
        """Return the voxels in some blocks along an axis, and their places between the blocks' centres."""
        blocks = slice(blocks.start, min(blocks.stop, self.shape[axis]))
        first, last = (min(block * self.sizes[axis], self.image_shape[axis]) for block in (blocks.start, blocks.stop))
        centres = self._centres(axis, blocks)
        return slice(first, last), np.interp(np.arange(first, last), centres, np.arange(centres.size))
