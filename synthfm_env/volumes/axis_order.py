"""Converts between a viewer's array and the (z, y, x) volume that it shows: axes may be swapped and flipped."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from numpy.typing import NDArray

from synthfm_env.errors import InputError
from synthfm_env.volumes.orientation import canonical_codes


@dataclass(frozen=True, slots=True)
class AxisOrder:
    """A swap of axes, then flips: converts a viewer's array to a volume's (z, y, x) order.

    Attributes:
        axes: axis ``i`` of the volume is axis ``axes[i]`` of the viewer's array.
        flips: whether axis ``i`` of the volume runs the other way.

    Example:
        >>> import numpy as np
        >>> order = AxisOrder(axes=(2, 1, 0), flips=(False, True, False))
        >>> order.to_volume(np.zeros((4, 3, 2))).shape
        (2, 3, 4)
        >>> order.voxel_to_volume((1, 0, 0), (4, 3, 2))
        (0, 2, 1)
    """

    axes: tuple[int, int, int] = (0, 1, 2)
    flips: tuple[bool, bool, bool] = (False, False, False)

    @classmethod
    def from_affine(cls, affine: NDArray[np.float64], shape: Sequence[int]) -> "AxisOrder":
        """Return the order that turns an array to the closest canonical orientation, as ``load_volume`` does.

        Args:
            affine: 4x4, from the array's own index (axis 0, 1, 2) to RAS+ mm.
            shape: of the array.

        Raises:
            InputError: the affine gives voxels no size.
        """
        if affine.shape != (4, 4) or not np.isfinite(affine).all() or abs(np.linalg.det(affine)) == 0:
            raise InputError(f"affine {affine.tolist()} is no 4x4 matrix that gives voxels a size; leave it out")
        stored = io_orientation(affine)
        transform = ornt_transform(stored, axcodes2ornt(canonical_codes(stored, shape)))
        # nibabel names the wanted (x, y, z) axis of each stored axis; a volume is (z, y, x).
        source = np.argsort(transform[:, 0])[::-1].astype(int)
        flipped = transform[source, 1] < 0
        a, b, c = source.tolist()
        u, v, w = flipped.tolist()
        return cls((a, b, c), (u, v, w))

    @classmethod
    def every(cls) -> Iterator["AxisOrder"]:
        """Yield all 48 orders, the identity first."""
        for axes in itertools.permutations((0, 1, 2)):
            for u, v, w in itertools.product((False, True), repeat=3):
                a, b, c = axes
                yield cls((a, b, c), (u, v, w))

    def after(self, first: "AxisOrder") -> "AxisOrder":
        """Return the order that applies ``first``, then this one."""
        a, b, c = (first.axes[axis] for axis in self.axes)
        u, v, w = (flip != first.flips[axis] for axis, flip in zip(self.axes, self.flips, strict=True))
        return AxisOrder((a, b, c), (u, v, w))

    def to_volume(self, array: NDArray) -> NDArray:
        """Return a view of the viewer's array in the volume's order."""
        return array.transpose(self.axes)[self._slices]

    def from_volume(self, array: NDArray) -> NDArray:
        """Return a view of the volume's array in the viewer's order."""
        return array[self._slices].transpose(np.argsort(self.axes))

    def lengths_to_volume(self, lengths: Sequence[float]) -> tuple[float, float, float]:
        """Return a spacing or shape along the volume's axes, from one along the viewer's."""
        a, b, c = self.axes
        return lengths[a], lengths[b], lengths[c]

    def voxel_to_volume(self, voxel: Sequence[int], shape: Sequence[int]) -> tuple[int, int, int]:
        """Return the volume's index of a voxel.

        Args:
            voxel: index in the viewer's array.
            shape: of the viewer's array.
        """
        z, y, x = (
            shape[axis] - 1 - voxel[axis] if flip else voxel[axis]
            for axis, flip in zip(self.axes, self.flips, strict=True)
        )
        return z, y, x

    def affine_of_volume(self, affine: NDArray[np.float64], shape: Sequence[int]) -> NDArray[np.float64]:
        """Return the affine from the volume's (x, y, z) index to RAS+ mm.

        Args:
            affine: from the viewer's array's own index.
            shape: of the viewer's array.
        """
        to_viewer = np.zeros((4, 4))
        to_viewer[3, 3] = 1
        for axis, (source, flip) in enumerate(zip(self.axes, self.flips, strict=True)):
            to_viewer[source, 2 - axis] = -1 if flip else 1
            to_viewer[source, 3] = shape[source] - 1 if flip else 0
        return affine @ to_viewer

    @property
    def _slices(self) -> tuple[slice, ...]:
        return tuple(slice(None, None, -1 if flip else None) for flip in self.flips)
