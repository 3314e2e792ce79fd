"""Checks the headers of NIfTI files before their voxels are read."""

import math
import struct
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.orientations import io_orientation

from synthfm_env.errors import InputError
from synthfm_env.memory_limit import check_memory

MOST_EXTRA_BYTES = 64 << 20
"""Bytes of extensions before the voxels, and of padding after them, at most."""

_SMALLEST_MM, _LARGEST_MM = 1e-9, 1e6  # limits of a voxel's sides, before the header's unit is applied


def check_before_reading(path: Path) -> None:
    """Refuse a header that makes nibabel read without bound, and an infinite scaling, which nibabel ignores.

    A file that is no NIfTI passes; ``nib.load`` names what it is.
    """
    kind = nib.Nifti1Pair if path.name.endswith((".img", ".hdr", ".img.gz", ".hdr.gz")) else nib.Nifti1Image
    file_map = kind.filespec_to_file_map(path)
    with file_map.get("header", file_map["image"]).get_prepare_fileobj("rb") as stream:
        raw = _raw_header(stream)
        if raw is None:
            return
        _check_scaling(raw, path)
        extra: float = MOST_EXTRA_BYTES  # a pair's extensions reach to the end of its header file
        if kind is nib.Nifti1Image:
            extra = float(raw["vox_offset"])
            if not 0 <= extra <= MOST_EXTRA_BYTES:
                raise InputError(
                    f"{path}: voxels begin at byte {extra:g}, expected at most {MOST_EXTRA_BYTES}; fix the header first"
                )
        _check_extensions(stream, extra - stream.tell(), raw.endianness, path)


def _raw_header(stream: Any) -> nib.Nifti1Header | None:
    """Read the fixed part of a NIfTI header, unchecked; None if the file is of another format."""
    start = stream.read(4)
    for kind in (nib.Nifti1Header, nib.Nifti2Header):
        for order in ("<", ">"):
            if start == struct.pack(f"{order}i", kind.sizeof_hdr):
                block = start + stream.read(kind.sizeof_hdr - 4)
                return kind(block, order, check=False) if len(block) == kind.sizeof_hdr else None
    return None


def _check_extensions(stream: Any, left: float, order: str, path: Path) -> None:
    """Refuse an extension of the header that is larger than ``MOST_EXTRA_BYTES``, or of no size."""
    if stream.read(4)[:1] in (b"", b"\0"):
        return
    while left >= 16 and len(size := stream.read(4)) == 4:
        (length,) = struct.unpack(f"{order}i", size)
        if not 8 <= length <= MOST_EXTRA_BYTES:
            raise InputError(
                f"{path}: an extension of its header has {length} bytes, expected 8 to {MOST_EXTRA_BYTES}; "
                "save the file again without extensions"
            )
        stream.read(length - 4)
        left -= length


def _check_scaling(raw: nib.Nifti1Header, path: Path) -> None:
    """Refuse an infinite slope or intercept."""
    slope, inter = float(raw["scl_slope"]), float(raw["scl_inter"])
    scaled = math.isfinite(slope) and slope != 0
    if math.isinf(slope) or (scaled and not math.isfinite(inter)):
        raise InputError(f"{path}: intensities are scaled by slope {slope:g} and intercept {inter:g}; fix the header")


def check_header(header: nib.Nifti1Header, path: Path) -> None:
    """Refuse a header of several volumes, without voxels, beyond the memory limit, or without usable voxel sizes."""
    # Shape: one volume with voxels, within the memory limit
    shape = header.get_data_shape()
    if math.prod(shape[3:]) > 1:
        raise InputError(
            f"{path}: holds {math.prod(shape[3:])} volumes (shape {shape}), expected one; "
            "split the file first, for example with nibabel.four_to_three, and give one of them"
        )
    if len(shape) < 2 or math.prod(shape) == 0:
        raise InputError(f"{path}: has shape {shape}, expected a volume or a 2D image with voxels")
    try:
        header.get_xyzt_units()
    except KeyError as error:
        raise InputError(f"{path}: unit {error} of its header is unknown; fix the header first") from None
    size = header.get_data_dtype().itemsize + 4  # as stored, and as float32
    check_memory(math.prod(map(int, shape)) * size, f"{path}: its header promises shape {shape}, which")
    # Affine: finite, invertible, of usable voxel sizes, and axes that differ
    affine = header.get_best_affine()
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine)) == 0:
        raise InputError(f"{path}: its affine {affine.tolist()} gives voxels no size; fix the header first")
    sides = np.linalg.norm(affine[:3, :3], axis=0)
    if not ((sides >= _SMALLEST_MM) & (sides <= _LARGEST_MM)).all():
        raise InputError(
            f"{path}: its affine gives voxels of {sides.tolist()} mm, expected {_SMALLEST_MM:g} to {_LARGEST_MM:g}; "
            "fix the header first"
        )
    if np.isnan(io_orientation(affine)).any():
        raise InputError(f"{path}: two axes of its affine {affine.tolist()} coincide; fix the header first")
