"""Converts the axes of a NIfTI file to (z, y, x), and back."""

import itertools
from collections.abc import Sequence

import nibabel as nib
import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)
from numpy.typing import NDArray

MM_PER_UNIT = {"meter": 1000.0, "micron": 0.001}


def spatial_shape(header: nib.Nifti1Header) -> tuple[int, ...]:
    """Return the lengths of the file's first three axes; 1 for a missing one."""
    return tuple((*header.get_data_shape(), 1, 1)[:3])


def to_zyx(voxels: NDArray, header: nib.Nifti1Header) -> NDArray:
    """Reorient stored voxels (i, j, k) to (z, y, x), as a view if possible."""
    stored, wanted = _axes(header)
    return np.asarray(apply_orientation(voxels, ornt_transform(stored, wanted))).T


def from_zyx(array: NDArray, header: nib.Nifti1Header) -> NDArray:
    """Undo ``to_zyx``; the result has the file's shape, with trailing axes of length one."""
    stored, wanted = _axes(header)
    voxels = apply_orientation(array.T, ornt_transform(wanted, stored))
    return np.asarray(voxels).reshape(header.get_data_shape())


def affine_mm(header: nib.Nifti1Header) -> NDArray[np.float64]:
    """Return the affine from the (x, y, z) index of the reoriented array to RAS+ mm."""
    stored, wanted = _axes(header)
    to_stored = inv_ornt_aff(ornt_transform(stored, wanted), spatial_shape(header))
    affine = np.asarray(header.get_best_affine() @ to_stored)
    affine[:3] *= MM_PER_UNIT.get(header.get_xyzt_units()[0], 1.0)
    return affine


def spacing_zyx(affine: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the (z, y, x) voxel size in mm."""
    x, y, z = voxel_sizes(affine)
    return float(z), float(y), float(x)


def corner_shift_mm(shape: tuple[int, ...], one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Return the largest distance in mm between the corners of a (D, H, W) grid under two affines."""
    ends = [(0, n - 1) for n in reversed(shape)]
    corners = np.array([(*corner, 1) for corner in itertools.product(*ends)])
    return float(np.linalg.norm(corners @ (one - other).T, axis=1).max())


def canonical_codes(stored: NDArray, shape: Sequence[int]) -> str:
    """Return the axis codes of a volume's (x, y, z) axes: RAS, but the normal of a single slice is always last.

    Args:
        stored: nibabel's orientation of the stored axes.
        shape: lengths of the stored axes.
    """
    lengths = np.empty(3, dtype=int)
    lengths[stored[:, 0].astype(int)] = shape
    axes = "RAS"
    if np.count_nonzero(lengths == 1) == 1:
        normal = axes[int(np.argmin(lengths))]
        axes = axes.replace(normal, "") + normal
    return axes


def _axes(header: nib.Nifti1Header) -> tuple[NDArray, NDArray]:
    """Return nibabel's orientation of the stored axes, and that of the volume's (x, y, z) axes."""
    stored = io_orientation(header.get_best_affine())
    return stored, axcodes2ornt(canonical_codes(stored, spatial_shape(header)))
