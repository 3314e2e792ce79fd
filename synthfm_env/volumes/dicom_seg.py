"""Reads DICOM series and writes DICOM SEG with highdicom (extra ``data``)."""

import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthfm_env.errors import InputError
from synthfm_env.files import atomic_write
from synthfm_env.volumes.axis_order import AxisOrder
from synthfm_env.volumes.datasets.readers import read_series
from synthfm_env.volumes.nifti import FilePath
from synthfm_env.volumes.volume import Volume

DICOM_SERIES = "dicom_series"
"""Key of ``Volume.metadata``: the series' files, by position along the slices' normal."""
_AFFINE = "dicom_affine"
_SWAP = np.eye(4)[:, [2, 1, 0, 3]]  # from an affine of (x, y, z) to one of an array's own index (z, y, x), and back
_MODALITIES = {"CT": "CT", "MR": "MR", "US": "US"}
_MAGIC = b"DICM"


def load_dicom_series(folder: FilePath, *, modality: str | None = None, case_id: str | None = None) -> Volume:
    """Read the one DICOM series that a folder holds, a file for each slice.

    The image is turned to RAS+ as ``load_volume`` turns a NIfTI file.

    Args:
        folder: files that are no DICOM are passed over.
        modality: "CT", "MR", "US" or "other". None takes the series' own.
        case_id: names the case in records. None takes the folder's name; nothing of the patient is read.

    Returns:
        A Volume without a label. ``metadata["dicom_series"]`` holds the files in slice order, for ``save_dicom_seg``.

    Raises:
        InputError: no series or several, a broken slice, a slice without its place in mm, slices that make no grid
            (other sizes, a missing slice, two at one place), or SimpleITK or pydicom is missing.

    Example:
        >>> from synthfm_env.volumes.dicom_seg import load_dicom_series
        >>> load_dicom_series("no-such-folder")
        Traceback (most recent call last):
        synthfm_env.errors.InputError: no-such-folder: no such folder; name the folder of a DICOM series
    """
    root = Path(folder)
    if not os.path.isdir(root):
        raise InputError(f"{root}: no such folder; name the folder of a DICOM series")
    files, series_modality = _one_series(root)
    image, order, affine = read_series(files)
    to_volume = AxisOrder.from_affine(affine @ _SWAP, image.shape)
    z, y, x = (float(mm) for mm in np.linalg.norm((affine @ _SWAP)[:3, :3], axis=0))
    return Volume(
        image=np.ascontiguousarray(to_volume.to_volume(image)),
        spacing=to_volume.lengths_to_volume((z, y, x)),
        modality=modality or _MODALITIES.get(series_modality, "other"),
        case_id=case_id or root.resolve().name,
        affine=to_volume.affine_of_volume(affine @ _SWAP, image.shape),
        metadata={
            "source": str(root),
            DICOM_SERIES: [str(files[i]) for i in order],
            _AFFINE: affine.tolist(),
        },
    )


def series_order(volume: Volume) -> tuple[AxisOrder, tuple[int, ...]]:
    """Return the order that converts the series' array (slice, row, column) to a volume, and the array's shape."""
    affine = np.array(volume.metadata[_AFFINE]) @ _SWAP
    # A swap of axes keeps the set of lengths: the inverse of the order gives the array's shape.
    for order in AxisOrder.every():
        shape = order.from_volume(volume.image).shape
        if order == AxisOrder.from_affine(affine, shape):
            return order, shape
    raise InputError(f"{volume.case_id}: its DICOM affine does not fit its image; read the series again")


def save_dicom_seg(mask: NDArray, volume: Volume, path: FilePath, *, structure: str = "structure") -> None:
    """Write a mask as DICOM SEG that refers to the series which a volume was read from.

    One binary segment, marked as made semiautomatically. Patient and study are copied from the series, as the standard
    asks, so the file is as confidential as the series. It appears complete or not at all.

    Args:
        mask: (D, H, W), axes (z, y, x), the grid of ``volume``; non-zero is inside.
        volume: from ``load_dicom_series``.
        path: ends in .dcm; its folder must exist.
        structure: the segment's label.

    Raises:
        InputError: the volume is no DICOM series, the series lacks an attribute that DICOM SEG copies, the mask is
            empty or on another grid, highdicom is missing, or the file cannot be written.
    """
    # Check what the user gave.
    target = Path(path)
    if DICOM_SERIES not in volume.metadata:
        raise InputError(f"{target}: DICOM SEG refers to a DICOM series, {volume.case_id} is none; save NIfTI instead")
    if mask.shape != volume.image.shape:
        raise InputError(f"save_dicom_seg: mask has the grid {mask.shape}, the volume {volume.image.shape} (z, y, x)")
    if not mask.any():
        raise InputError(f"{target}: the mask is empty, and DICOM SEG holds no empty segment")
    if target.suffix != ".dcm":
        raise InputError(f"{target}: a DICOM SEG file's name ends in .dcm")
    # Make the file in memory, then write it.
    try:
        segmentation = _segmentation(mask, volume, structure)
    except (
        AttributeError,
        KeyError,
        OSError,
        TypeError,
        ValueError,
    ) as error:  # an attribute is missing
        reason = " ".join(str(error).split())
        raise InputError(f"{target}: the series lacks what DICOM SEG copies ({reason}); save NIfTI instead") from None
    try:
        with atomic_write(target) as file:
            segmentation.save_as(file)
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror or error})") from error


def _segmentation(mask: NDArray, volume: Volume, structure: str) -> Any:
    """Return highdicom's segmentation of one binary segment on the slices of the series."""
    from importlib import metadata

    pydicom, highdicom = _packages()
    from pydicom.sr.codedict import codes

    # Slices of the series, and the mask in their order
    series = [pydicom.dcmread(file) for file in volume.metadata[DICOM_SERIES]]
    order, _ = series_order(volume)
    frames = np.ascontiguousarray(order.from_volume(mask) != 0).astype(np.uint8)
    version = metadata.version("synthfm_env")
    # What the one segment is, and what drew it
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name="synthfm_env", version=version, family=codes.DCM.ArtificialIntelligence
    )
    description = highdicom.seg.SegmentDescription(
        segment_number=1,
        segment_label=structure[:64],
        segmented_property_category=codes.SCT.AnatomicalStructure,
        segmented_property_type=codes.SCT.AnatomicalStructure,
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.SEMIAUTOMATIC,
        algorithm_identification=algorithm,
    )
    return highdicom.seg.Segmentation(
        source_images=series,
        pixel_array=frames,
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[description],
        series_instance_uid=highdicom.UID(),
        series_number=1,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="synthfm_env",
        manufacturer_model_name="synthfm_env",
        software_versions=version,
        device_serial_number="0",
        omit_empty_frames=False,  # some readers stack the frames to a volume, so all must be there
    )


def _one_series(root: Path) -> tuple[list[Path], str]:
    """Return the files of the only series in a folder, and its modality."""
    pydicom, _ = _packages()
    series: dict[str, list[Path]] = defaultdict(list)
    modality = ""
    for path in sorted(root.iterdir()):
        if not os.path.isfile(path) or not _is_dicom(path):
            continue
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SeriesInstanceUID", "Modality"])
            series[str(header.get("SeriesInstanceUID", ""))].append(path)
            modality = str(header.get("Modality", ""))
        except Exception as error:  # pydicom raises any kind on a damaged header
            reason = " ".join(str(error).split()) or type(error).__name__
            raise InputError(f"{path}: cannot be read as DICOM ({reason}); check that the file is complete") from None
    if len(series) != 1:
        raise InputError(f"{root}: holds {len(series)} DICOM series, expected one; put one series in a folder")
    return next(iter(series.values())), modality


def _is_dicom(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(132)[128:] == _MAGIC
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); make it readable or move it") from None


def _packages() -> tuple[Any, Any]:
    try:
        import highdicom
        import pydicom
    except ImportError as error:
        raise InputError(
            'DICOM series and SEG need pydicom and highdicom, which are not installed: pip install "synthfm_env[data]"'
        ) from error
    return pydicom, highdicom
