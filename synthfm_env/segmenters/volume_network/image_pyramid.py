"""Keeps an image at several resolutions, so that a crop of any size is resampled in the same short time."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synthfm_env.segmenters.focus import Crop, Shape
from synthfm_env.segmenters.volume_network.resampling import along_axis, resample
from synthfm_env.volumes.intensity import LUMA

_LONGEST_SIDE = 160  # voxels; a longer axis is halved in the next level
_VOXELS_PER_GRID_VOXEL = 3  # a level serves if it has at least so many along every axis


class ImagePyramid:
    """Level 0 is the image; each further level holds block means of two voxels along the long axes.

    Example:
        >>> pyramid = ImagePyramid(np.arange(8, dtype=np.uint8).reshape(1, 1, 8))
        >>> pyramid.crop((slice(0, 1), slice(0, 1), slice(0, 8)), (1, 1, 2))
        tensor([[[1.5000, 5.5000]]])
    """

    def __init__(self, image: NDArray[np.uint8]) -> None:
        """Take an image, uint8 (D, H, W) or (D, H, W, 3), and build all levels."""
        grey = image if image.ndim == 3 else np.rint(image @ LUMA).astype(np.uint8)
        self.shape: Shape = (grey.shape[0], grey.shape[1], grey.shape[2])
        level = torch.from_numpy(grey if grey.flags.writeable and grey.flags.c_contiguous else grey.copy())
        self._levels, self._sizes = [level], [(1, 1, 1)]
        while any(n > _LONGEST_SIDE for n in level.shape):
            halved = tuple(2 if n > _LONGEST_SIDE else 1 for n in level.shape)
            level = _block_means(level, halved)
            z, y, x = (size * half for size, half in zip(self._sizes[-1], halved, strict=True))
            self._levels.append(level)
            self._sizes.append((z, y, x))

    def crop(self, crop: Crop, grid: Shape) -> Tensor:
        """Return a crop on a grid; float32, 0 to 255.

        Taken from the coarsest level that still has some voxels for each voxel of the grid, so the cost does not
        depend on the size of the crop. The crop is widened to whole blocks of that level and the grid is laid over
        the part that was asked for.
        """
        level, sizes = self._levels[0], self._sizes[0]
        for coarser, blocks in zip(self._levels[1:], self._sizes[1:], strict=True):
            enough = all(
                size == 1 or (side.stop - side.start) >= _VOXELS_PER_GRID_VOXEL * size * n
                for side, size, n in zip(crop, blocks, grid, strict=True)
            )
            if enough:
                level, sizes = coarser, blocks
        if sizes == (1, 1, 1):
            return resample(level[crop], grid)
        values = level[tuple(_blocks(side, size) for side, size in zip(crop, sizes, strict=True))].float()
        for axis in sorted(range(3), key=lambda axis: grid[axis] / values.shape[axis]):
            values = along_axis(values, axis, _weights_over(crop[axis], sizes[axis], grid[axis], self.shape[axis]))
        return values


def _blocks(side: slice, size: int) -> slice:
    return slice(side.start // size, -(-side.stop // size))


def _weights_over(side: slice, size: int, n: int, length: int) -> Tensor:
    """Return area weights (n, blocks) of grid voxels over the blocks that a side of a crop touches."""
    blocks = _blocks(side, size)
    edges = torch.linspace(side.start, side.stop, n + 1, dtype=torch.float64)
    low = torch.arange(blocks.start, blocks.stop, dtype=torch.float64) * size
    high = (low + size).clamp(max=length)
    overlap = (torch.minimum(edges[1:, None], high) - torch.maximum(edges[:-1, None], low)).clamp(min=0)
    return (overlap / overlap.sum(1, keepdim=True)).float()


def _block_means(level: Tensor, halved: tuple[int, ...]) -> Tensor:
    """Return means of pairs, rounded down, along the halved axes; a last single voxel stands for its pair."""
    sums = level
    for axis, half in enumerate(halved):
        if half == 1:
            continue
        n = sums.shape[axis]
        first, second = sums[_every_second(axis, 0)], sums[_every_second(axis, 1)]
        if n % 2:
            second = torch.cat((second, sums.narrow(axis, n - 1, 1)), axis)
        # Means of two bytes without a wider type: (a & b) + (a ^ b) / 2.
        sums = (first & second) + ((first ^ second) >> 1)
    return sums.contiguous()


def _every_second(axis: int, first: int) -> tuple[slice, ...]:
    return tuple(slice(first, None, 2) if other == axis else slice(None) for other in range(3))
