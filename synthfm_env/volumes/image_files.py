"""Reads images from NIfTI files or folders of DICOM series, and writes masks on their grids."""

import os
from pathlib import Path

from numpy.typing import NDArray

from synthfm_env.errors import InputError
from synthfm_env.prompts import Click
from synthfm_env.volumes.dicom_seg import DICOM_SERIES, load_dicom_series, save_dicom_seg, series_order
from synthfm_env.volumes.nifti import load_volume, save_mask
from synthfm_env.volumes.viewer_coordinates import clicks_in_volume
from synthfm_env.volumes.volume import Volume


def open_image(path: Path, modality: str | None = None) -> Volume:
    """Read a NIfTI file, or the one DICOM series in a folder; see ``load_volume`` and ``load_dicom_series``."""
    return (load_dicom_series if os.path.isdir(path) else load_volume)(path, modality=modality)


def clicks_as_stored(clicks: list[Click], path: Path, volume: Volume) -> list[Click]:
    """Convert clicks in stored voxels to clicks in the volume that ``open_image`` returns.

    Args:
        clicks: z, y, x count from 0 along the third, second and first axis of a NIfTI file; of a DICOM series they
            count slices in the direction of rows x columns, rows, and columns.
        path: the file or folder.
        volume: ``open_image(path)``.

    Raises:
        InputError: a click is outside the image.
    """
    if DICOM_SERIES not in volume.metadata:
        return clicks_in_volume(clicks, path, volume)
    order, shape = series_order(volume)
    for click in clicks:
        click.check_inside(shape)
    return [Click(order.voxel_to_volume(click.zyx, shape), click.positive) for click in clicks]


def write_mask(mask: NDArray, volume: Volume, path: Path, structure: str = "structure") -> None:
    """Write a mask as NIfTI, or as DICOM SEG if the name ends in .dcm."""
    if path.suffix == ".dcm":
        save_dicom_seg(mask, volume, path, structure=structure)
    else:
        save_mask(mask, volume, path)


def check_mask_path(output: Path, image: Path) -> None:
    """Check a mask's path before any work is done.

    Raises:
        InputError: a mask cannot be written to ``output``, or would replace the image.
    """
    if output.suffix == ".dcm" and not os.path.isdir(image):
        raise InputError(
            f"-o {output}: DICOM SEG refers to a DICOM series; name its folder as the image, or save .nii.gz"
        )
    if not output.name.endswith((".nii", ".nii.gz", ".dcm")):
        raise InputError(
            f"-o {output}: a mask is written as NIfTI, so its name ends in .nii or .nii.gz (or .dcm, DICOM SEG)"
        )
    if not os.path.isdir(output.parent):
        raise InputError(f"-o {output}: there is no folder {output.parent}; make it first")
    if os.path.realpath(output) == os.path.realpath(image):
        raise InputError(f"-o {output}: is the image itself; give the mask another name")
