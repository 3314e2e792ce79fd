"""Masks as files that a browser downloads."""

import re
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthfm_env.volumes import Volume, save_mask


def nifti_bytes(mask: NDArray[np.bool_], volume: Volume, structure: str) -> bytes:
    """Return a mask as .nii.gz, on the grid of the file that the volume came from."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mask.nii.gz"
        save_mask(mask, volume, path)
        return path.read_bytes()


def dicom_bytes(mask: NDArray[np.bool_], volume: Volume, structure: str) -> bytes:
    """Return a mask as DICOM SEG.

    Raises:
        InputError: the volume was not read from a DICOM series, the mask is empty, or the extra ``data`` is missing.
    """
    from synthfm_env.volumes.dicom_seg import save_dicom_seg

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mask.dcm"
        save_dicom_seg(mask, volume, path, structure=structure)
        return path.read_bytes()


def mask_name(volume: Volume, structure: str, ending: str) -> str:
    """Return a file name of letters, digits, dots, hyphens and underscores."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", f"{volume.case_id}_{structure}")[:80] + ending
