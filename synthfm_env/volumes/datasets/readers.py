"""Reads files other than NIfTI: mhd, mha and DICOM with SimpleITK, PNG and similar formats with Pillow."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from synthfm_env.errors import InputError
from synthfm_env.memory_limit import check_memory
from synthfm_env.printable import printable
from synthfm_env.volumes.intensity import LUMA
from synthfm_env.volumes.volume import Volume

_BYTES_PER_VOXEL = 8  # as stored, and as float32
_UNEVEN = 0.1  # refuse slices whose distance differs by more than this share from the median distance
_NEEDED = {
    "0028|0030": ("PixelSpacing", "two lengths in mm above 0"),
    "0020|0032": ("ImagePositionPatient", "three positions in mm"),
    "0020|0037": ("ImageOrientationPatient", "two perpendicular directions of length 1"),
}
"""The DICOM attributes that give a slice its place: tag, name and expected value."""


def simple_itk() -> Any:
    """Return SimpleITK.

    Raises:
        InputError: it is not installed.
    """
    try:
        import SimpleITK
    except ImportError as error:
        raise InputError(
            'mhd, mha and DICOM files need SimpleITK, which is not installed: pip install "synthfm_env[data]"'
        ) from error
    return SimpleITK


def read_itk(path: Path) -> tuple[NDArray[Any], tuple[float, float, float]]:
    """Read an image that SimpleITK knows.

    Returns:
        Its voxels (D, H, W), colours turned to grey, and its spacing (z, y, x) in mm. A 2D image has one slice.

    Raises:
        InputError: a file that is missing or broken.
    """
    itk = simple_itk()
    if not os.path.isfile(path):
        raise InputError(f"{path}: no such file")
    try:
        image = itk.ReadImage(str(path))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise InputError(f"{path}: cannot be read ({reason}); check that the file is complete") from None
    voxels = np.asarray(itk.GetArrayFromImage(image))
    if image.GetNumberOfComponentsPerPixel() > 1:
        voxels = voxels[..., :3] @ LUMA
    spacing = tuple(float(size) for size in reversed(image.GetSpacing()))
    if voxels.ndim == 2:
        voxels, spacing = voxels[None], (1.0, *spacing)
    if voxels.ndim != 3:
        raise InputError(f"{path}: has {voxels.ndim} axes, expected an image or a volume")
    return voxels, (spacing[-3], spacing[-2], spacing[-1])


def read_picture(path: Path) -> NDArray[Any]:
    """Read a PNG, TIFF or BMP of one page as (H, W); colours become grey.

    Raises:
        InputError: a file that is missing or broken.
    """
    try:
        with Image.open(path) as picture:
            deep = picture.mode.startswith(("I", "F"))  # 16 bits and more
            return np.array(picture if deep or picture.mode == "L" else picture.convert("L"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: cannot be read as an image ({reason}); check that the file is complete") from None


def read_series(files: Sequence[Path]) -> tuple[NDArray[np.float32], list[int], NDArray[np.float64]]:
    """Read the slices of a DICOM series, each a file of its own.

    Slices are put in order by their positions, because anonymised series may lack other attributes.

    Args:
        files: at least one slice.

    Returns:
        The image (D, H, W) in the series' own axes; for each slice the index of its file in ``files``; and the affine
        from (x, y, z) indices to RAS+ mm.

    Raises:
        InputError: a slice is broken, lacks its position in mm, differs from the first one in size, spacing or
            orientation, or has the position of another one; a slice between two others is missing.
    """
    # Slices in the order of their positions along the normal.
    itk = simple_itk()
    slices = [_slice(itk, path, len(files)) for path in files]
    _check_same_grid(slices, files)
    row, column = np.array(slices[0].direction[:3]), np.array(slices[0].direction[3:])
    normal = np.cross(row, column)
    places = np.array([float(np.dot(each.origin, normal)) for each in slices])
    order = np.argsort(places, kind="stable").tolist()
    _check_even(places[order], [files[i] for i in order])
    gaps = np.diff(places[order])
    step = float(np.median(gaps)) if gaps.size else slices[0].spacing[2]
    # Affine from the first slice and the median distance.
    affine = np.eye(4)
    first = slices[order[0]]
    affine[:3, :3] = np.column_stack((row * first.spacing[0], column * first.spacing[1], normal * step))
    affine[:3, 3] = first.origin
    affine[:2] *= -1  # DICOM's LPS to RAS
    return np.stack([slices[i].pixels for i in order]), order, affine


def in_canonical_axes(
    image: NDArray[np.float32], label: NDArray[np.integer], affine: NDArray[np.float64], **fields: Any
) -> Volume:
    """Return a volume in the axes of ``load_volume``: z from foot to head, y from back to front, x from left to right.

    Args:
        image: (D, H, W) in the file's own axes.
        label: on the same grid.
        affine: from (x, y, z) indices to RAS+ mm.
        fields: other fields of the ``Volume``.
    """
    from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation

    from synthfm_env.volumes.orientation import spacing_zyx

    orientation = io_orientation(affine)
    reoriented = affine @ inv_ornt_aff(orientation, image.shape[::-1])
    arrays = [np.ascontiguousarray(apply_orientation(array.T, orientation).T) for array in (image, label)]
    return Volume(arrays[0], arrays[1], spacing=spacing_zyx(reoriented), affine=reoriented, **fields)


class _Slice:
    """A DICOM file of one slice: its pixels in the scanner's units, and their position."""

    def __init__(self, pixels: NDArray[np.float32], image: Any) -> None:
        self.pixels = pixels
        self.origin = image.GetOrigin()
        self.spacing = image.GetSpacing()
        direction = np.array(image.GetDirection()).reshape(3, 3)
        self.direction = (*direction[:, 0].tolist(), *direction[:, 1].tolist())


def _check_same_grid(slices: Sequence[_Slice], files: Sequence[Path]) -> None:
    """Check that all slices have the rows and columns, the spacing and the orientation of the first one."""
    first = slices[0]
    for each, path in zip(slices, files, strict=True):
        differs = [
            f"{name} {tuple(np.round(theirs, 3).tolist())} and {tuple(np.round(ours, 3).tolist())}"
            for name, theirs, ours in (
                ("rows and columns", first.pixels.shape, each.pixels.shape),
                ("spacing (x, y)", first.spacing[:2], each.spacing[:2]),
                ("orientation", first.direction, each.direction),
            )
            if not np.allclose(theirs, ours, atol=1e-3)
        ]
        if differs:
            raise InputError(
                f"{files[0].parent}: {files[0].name} and {path.name} differ in {differs[0]}; "
                "put slices of one series and one size in a folder"
            )


def _check_even(places: NDArray[np.float64], files: Sequence[Path]) -> None:
    """Check that slices, in order, have equal distances in mm, as a grid of voxels needs."""
    gaps = np.diff(places)
    if not gaps.size:
        return
    step = float(np.median(gaps))
    worst = int(np.argmin(gaps)) if gaps.min() <= 1e-3 else int(np.argmax(abs(gaps - step)))
    between = f"{files[0].parent}: {files[worst].name} and {files[worst + 1].name}"
    if gaps.min() <= 1e-3:
        raise InputError(
            f"{between} have the same position, {places[worst]:g} mm along the normal; "
            "put one series in a folder, each slice once"
        )
    if abs(gaps[worst] - step) > _UNEVEN * step:
        raise InputError(
            f"{between} are {gaps[worst]:g} mm apart, the other slices {step:g} mm; "
            "add the missing slices, or resample the series to equal distances and save it as NIfTI"
        )


def _check_place(reader: Any, path: Path) -> None:
    """Check the attributes that place a slice; ITK takes 1 mm, the origin and the axes if they are missing."""
    for tag, (name, expected) in _NEEDED.items():
        text = reader.GetMetaData(tag).strip() if reader.HasMetaDataKey(tag) else ""
        parts = text.split("\\")
        try:
            numbers = np.array([float(part) for part in parts])
        except ValueError:
            numbers = np.array([np.nan])
        if name == "PixelSpacing":
            fits = len(numbers) == 2 and numbers.min() > 0
        elif name == "ImagePositionPatient":
            fits = len(numbers) == 3
        else:
            fits = len(numbers) == 6 and np.allclose(
                numbers.reshape(2, 3) @ numbers.reshape(2, 3).T, np.eye(2), atol=1e-2
            )
        if not fits or not np.isfinite(numbers).all():
            raise InputError(
                f"{path}: {name} is {printable(', '.join(parts)) or 'missing'}, expected {expected}; "
                "correct the file, or convert the series to NIfTI with its true spacing"
            )


def _slice(itk: Any, path: Path, count: int) -> _Slice:
    """Read one file of a DICOM series of ``count`` slices."""
    reader = itk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        size = reader.GetSize()
        check_memory(
            math.prod(size) * count * _BYTES_PER_VOXEL,
            f"{path}: its header states {size} voxels (x, y, z), and a series of {count} such slices",
        )
        if math.prod(size[2:]) != 1:
            raise InputError(
                f"{path}: holds {math.prod(size[2:])} frames, expected one slice; convert a multi-frame file to NIfTI"
            )
        _check_place(reader, path)
        image = reader.Execute()
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].rpartition("): ")[2]  # after ITK's class and address
        raise InputError(f"{path}: cannot be read as DICOM ({reason}); check that the file is complete") from None
    pixels = np.asarray(itk.GetArrayFromImage(image), dtype=np.float32)
    if pixels.ndim != 3 or pixels.shape[0] != 1:
        raise InputError(f"{path}: holds an image of shape {pixels.shape}, expected one slice")
    return _Slice(pixels[0], image)
