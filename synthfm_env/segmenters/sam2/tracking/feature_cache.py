"""Caches the encoded slices of one stack within a memory budget."""

from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

_BATCH = 4  # slices encoded at once


class FeatureCache:
    """Least-recently-used cache of the image features of a stack's slices, encoded on demand in batches of neighbours.

    Attributes:
        depth: number of slices in the stack.
    """

    def __init__(
        self,
        image: NDArray[np.uint8],
        encode: Callable[[NDArray[np.uint8]], list[Tensor]],
        budget: int,
        timer: AbstractContextManager[object],
        reach: int = 0,
    ) -> None:
        """Start with an empty cache.

        Args:
            image: uint8 (D, H, W) or (D, H, W, 3), kept by reference.
            encode: returns the feature maps (B, C, h, w) of B slices at strides 4, 8 and 16.
            budget: bytes of cached maps at most; one batch is always kept.
            timer: runs while slices are encoded.
            reach: slices on either side that the maps of a slice depend on; they are encoded with it, then dropped.
        """
        self._image, self._encode, self._budget, self._timer, self._reach = image, encode, budget, timer, reach
        self._batches: OrderedDict[int, list[Tensor]] = OrderedDict()
        self.depth = len(image)

    def maps(self, z: int) -> list[Tensor]:
        """Return the three maps of slice ``z`` as float32 (1, C, h, w)."""
        batch, offset = divmod(z, _BATCH)
        if batch in self._batches:
            self._batches.move_to_end(batch)
        else:
            self._add(batch)
        return [level[offset : offset + 1].float() for level in self._batches[batch]]

    @property
    def kept_bytes(self) -> int:
        """Bytes of the cached maps."""
        return sum(level.nbytes for maps in self._batches.values() for level in maps)

    def clear(self) -> None:
        """Drop all maps. They are encoded again, to the same values, on demand."""
        self._batches.clear()

    def _add(self, batch: int) -> None:
        """Encode a batch of slices, and drop the batches used longest ago beyond the budget."""
        first, last = batch * _BATCH, min((batch + 1) * _BATCH, self.depth)
        with self._timer:
            if self._reach:
                wanted = np.arange(first - self._reach, last + self._reach).clip(0, self.depth - 1)
                inner = slice(self._reach, len(wanted) - self._reach)
                maps = [level[inner].clone() for level in self._encode(self._image[wanted])]
            else:
                maps = self._encode(self._image[first:last])
        size = sum(level.nbytes for level in maps)
        while self._batches and self.kept_bytes + size > self._budget:
            self._batches.popitem(last=False)
        self._batches[batch] = maps
