"""Reads NIfTI files into (z, y, x) arrays, and writes masks on the grid of the input file."""

import base64
import gzip
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from numpy.typing import NDArray

from synthfm_env.arguments import check_array, check_name
from synthfm_env.errors import InputError
from synthfm_env.files import atomic_write
from synthfm_env.memory_limit import MemoryLimitError
from synthfm_env.printable import printable, shown
from synthfm_env.volumes import nifti_header
from synthfm_env.volumes.intensity import check_intensities, guess_modality
from synthfm_env.volumes.orientation import (
    affine_mm,
    corner_shift_mm,
    from_zyx,
    spacing_zyx,
    spatial_shape,
    to_zyx,
)
from synthfm_env.volumes.volume import MODALITIES, Volume

FilePath = str | os.PathLike[str]

HEADER_KEY = "nifti_header"
FREE_TEXT = ("descrip", "aux_file", "intent_name", "db_name")  # may name a patient; NIfTI-2 has no db_name
_MOST_ID = np.iinfo(np.int32).max
# If an image has one of these names, its folder's name is the case's.
FOLDER_NAMES_THE_CASE = ("image", "imaging", "img", "ct", "mr", "mri", "us", "volume")


def load_volume(
    image_path: FilePath,
    label_path: FilePath | None = None,
    *,
    modality: str | None = None,
    case_id: str | None = None,
) -> Volume:
    """Read a NIfTI image and, if given, its label map.

    The image is reoriented to the closest canonical (RAS+) orientation, without resampling, and its axes are reversed:
    in ``volume.image[z, y, x]`` z runs from foot to head, y from back to front, x from left to right. In an image of
    one slice, z is always the axis across the slice. Trailing axes of length one are dropped, so files of shape (W, H),
    (W, H, 1) and (W, H, D, 1) are read. RGB becomes grey by its luma (ITU-R BT.601). Slope and intercept are applied to
    intensities; lengths in metres or microns become millimetres.

    ``metadata["source"]`` is the image's path. ``metadata["nifti_header"]`` is its header without free-text fields,
    which ``save_mask`` needs to write a mask on the grid of the input file.

    Args:
        image_path: a .nii or .nii.gz file (or the .img of a pair) with one volume.
        label_path: the same grid in any orientation, whole numbers, 0 = background.
        modality: "CT", "MR", "US" or "other". None guesses: "CT" if the voxels are whole numbers of which the lowest is
            -500 or below, as air has in Hounsfield units, otherwise "other".
        case_id: name of the case in records. None takes the file's name without its endings, or its folder's name if
            the file is named ``image``, ``imaging``, ``ct`` or similar.

    Returns:
        A Volume. The name of each structure is its label id: ``{1: "1"}``.

    Raises:
        InputError: a file is missing, truncated, corrupt or not NIfTI; the header's shape needs more memory than the
            limit (see ``memory_limit``); the modality is unknown; a slope is infinite; a file contains several volumes;
            voxels are NaN, infinite or complex; label ids are not whole numbers from 0 to 2**31 - 1; the label is
            empty, or on another grid than the image (corners more than half a voxel apart).

    Example:
        >>> import tempfile
        >>> from synthfm_env import SynthFM3D, load_volume, save_volume
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_volume(SynthFM3D((8, 32, 32), "ct").sample(1), f"{folder}/ct.nii.gz", f"{folder}/label.nii.gz")
        ...     volume = load_volume(f"{folder}/ct.nii.gz", f"{folder}/label.nii.gz", modality="CT")
        >>> volume.image.shape
        (8, 32, 32)
    """
    path = _as_path(image_path, "the image")
    if modality is not None:
        check_name("modality", modality, MODALITIES)
    header, voxels = _read(path)
    image = np.ascontiguousarray(to_zyx(_intensities(voxels, path), header), dtype=np.float32)
    affine = affine_mm(header)
    label = None if label_path is None else _load_label(_as_path(label_path, "the label"), path, image.shape, affine)
    return Volume(
        image=image,
        label=label,
        spacing=spacing_zyx(affine),
        modality=guess_modality(image) if modality is None else modality,
        case_id=case_id or _case_id(path),
        structures={} if label is None else {i: str(i) for i in _label_ids(label)},
        affine=affine,
        metadata={"source": str(path), HEADER_KEY: _encode_header(header)},
    )


def load_mask(path: FilePath, like: Volume) -> NDArray[np.bool_]:
    """Read the mask of one structure, which may be empty, on the grid of a volume.

    Args:
        path: a NIfTI file; non-zero is inside.
        like: a volume that ``load_volume`` read.

    Returns:
        bool (D, H, W).

    Raises:
        InputError: the file is missing or broken, or has another grid.
    """
    header, voxels = _read(_as_path(path, "the mask"))
    mask = np.ascontiguousarray(to_zyx(voxels != 0, header))
    _check_place(Path(path), header, mask.shape, str(like.metadata["source"]), like.image.shape, like.affine)
    return mask


def save_mask(mask: NDArray, like: Volume, path: FilePath) -> None:
    """Write a mask so that it overlays, in any viewer, the file that ``like`` was read from.

    The mask gets that file's orientation, shape, qform, sform and units. A volume that comes from no file
    is written in its own grid, with its affine. The file appears complete or not at all.

    Args:
        mask: (D, H, W), axes (z, y, x), the grid of ``like``; non-zero is inside. Stored as uint8 0 and 1.
        like: the volume that was segmented.
        path: ends in .nii or .nii.gz; its folder must exist.

    Raises:
        InputError: the mask is on another grid, or the file cannot be written.

    Example:
        >>> import tempfile
        >>> from synthfm_env import SynthFM3D, save_mask
        >>> volume = SynthFM3D((8, 32, 32), "ct").sample(1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_mask(volume.label == 1, volume, f"{folder}/mask.nii.gz")
    """
    target = _as_path(path, "the mask")
    check_array(mask, "save_mask: the mask")
    _check_volume(like, "save_mask")
    if mask.dtype.kind not in "buif":
        raise InputError(f"save_mask: the mask holds {mask.dtype}; give a bool array")
    if mask.shape != like.image.shape:
        raise InputError(f"save_mask: the mask's grid {mask.shape} is unlike the volume's {like.image.shape} (z, y, x)")
    inside = (mask != 0).astype(np.uint8)
    if HEADER_KEY not in like.metadata:
        _write(_on_own_grid(inside, like), target)
        return
    header = _decode_header(like.metadata[HEADER_KEY])
    header.set_data_dtype(np.uint8)
    header.set_intent("none")
    header["cal_min"], header["cal_max"] = 0, 1
    kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    _write(kind(from_zyx(inside, header), None, header), target)


def save_volume(volume: Volume, image_path: FilePath, label_path: FilePath | None = None) -> None:
    """Write a volume and, if a path is given, its label map on the volume's own grid.

    ``load_volume`` reads both back with the same voxels, spacing and affine. The first voxel of a volume without an
    affine is at the origin. Each file appears complete or not at all.

    Args:
        volume: its image is stored as float32, its label as the smallest of int16 and int32 that holds it.
        image_path: ends in .nii or .nii.gz; its folder must exist.
        label_path: the same.

    Raises:
        InputError: a label path for a volume without a label, or a file that cannot be written.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from synthfm_env import SynthFM3D, save_volume
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_volume(SynthFM3D((8, 32, 32), "ct").sample(1), f"{folder}/ct.nii.gz", f"{folder}/label.nii.gz")
        ...     sorted(path.name for path in Path(folder).iterdir())
        ['ct.nii.gz', 'label.nii.gz']
    """
    _check_volume(volume, "save_volume")
    image_file = _as_path(image_path, "the image")
    label_file = None if label_path is None else _as_path(label_path, "the label")
    for file in (image_file, label_file or image_file):
        _check_name(file)
    if label_file == image_file:
        raise InputError(f"save_volume: image and label were both named {image_file}; name two files")
    if label_file is not None and volume.label is None:
        raise InputError(f"save_volume: {volume.case_id} has no label to write to {label_file}")
    _write(_on_own_grid(volume.image, volume), image_file)
    if label_file is not None and volume.label is not None:
        _write(_on_own_grid(_compact(volume.label), volume), label_file)


def _as_path(path: FilePath, what: str) -> Path:
    if not isinstance(path, str | os.PathLike) or isinstance(os.fspath(path), bytes) or "\0" in os.fspath(path):
        raise InputError(f"{what}: expected the path of a NIfTI file, got {shown(path)}")
    return Path(path)


def _check_volume(volume: Volume, what: str) -> None:
    if not isinstance(volume, Volume):
        raise InputError(f"{what}: expected a Volume, got {type(volume).__name__}")


def image_as_nifti(volume: Volume) -> bytes:
    """Return a volume's image as an uncompressed NIfTI file with the volume's axes and without its affine's rotation.

    A viewer shows voxel (z, y, x) of the volume at index (x, y, z), without a tilt.
    """
    file = nib.Nifti1Image(volume.image.T, np.diag((*reversed(volume.spacing), 1.0)))
    file.header.set_xyzt_units("mm")
    return bytes(file.to_bytes())


def _read(path: Path) -> tuple[nib.Nifti1Header, NDArray]:
    """Return a NIfTI file's header, and its voxels as stored, with three axes."""
    if not os.path.isfile(path):
        raise InputError(f"{path}: {'is no regular file' if os.path.exists(path) else 'no such file'}")
    try:
        with _quiet_nibabel():
            return _read_nifti(path)
    except InputError:
        raise
    except MemoryError:
        raise MemoryLimitError(f"{path}: needs more memory than is free; use a smaller volume") from None
    except Exception as error:  # nibabel and gzip raise various exceptions at a broken file
        reason = printable(error) or type(error).__name__
        raise InputError(
            f"{path}: cannot be read as NIfTI ({reason}); check that the file is complete and of that format"
        ) from error


@contextmanager
def _quiet_nibabel() -> Iterator[None]:
    """Silence nibabel, which logs faults that it then raises or repairs."""
    logger = nib.imageglobals.logger
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _read_nifti(path: Path) -> tuple[nib.Nifti1Header, NDArray]:
    """Return the header and the voxels of an existing file; check its header first, and the checksum of a gzip file."""
    nifti_header.check_before_reading(path)
    file = nib.load(path, mmap=False)
    if not isinstance(file, nib.Nifti1Pair):
        raise InputError(f"{path}: holds {type(file).__name__}; convert it to NIfTI (.nii.gz) first")
    nifti_header.check_header(file.header, path)
    if path.suffix != ".gz" or not isinstance(file, nib.Nifti1Image):
        return file.header, _voxels(file)
    with gzip.open(path) as stream:
        voxels = _voxels(type(file).from_stream(stream))
        extra = 0
        while part := stream.read(1 << 20):  # gzip compares its checksum at the end of the file
            extra += len(part)
            if extra > nifti_header.MOST_EXTRA_BYTES:
                raise InputError(
                    f"{path}: goes on for more than {nifti_header.MOST_EXTRA_BYTES} bytes after its voxels; its header "
                    "is wrong, or the file is not what it seems: save it again"
                )
    return file.header, voxels


def _voxels(file: nib.Nifti1Pair) -> NDArray:
    """Return the voxels with three axes, scaled to float32 if the header has a slope or an intercept."""
    proxy = file.dataobj
    scaled = isinstance(proxy, ArrayProxy) and (proxy.slope, proxy.inter) != (1, 0)
    if scaled and file.get_data_dtype().kind in "iuf":
        voxels = file.get_fdata(dtype=np.float32, caching="unchanged")
    else:
        voxels = np.asanyarray(proxy)
    return np.asarray(voxels.reshape(spatial_shape(file.header), order="F"))


def _intensities(voxels: NDArray, path: Path) -> NDArray:
    """Return finite intensities; RGB becomes grey."""
    if voxels.dtype.fields is not None:
        return np.asarray(0.299 * voxels["R"] + 0.587 * voxels["G"] + 0.114 * voxels["B"])
    if voxels.dtype.kind == "f":
        with np.errstate(over="ignore"):  # values beyond float32 become infinite and are refused
            voxels = voxels.astype(np.float32, copy=False)
    check_intensities(voxels, str(path))
    return voxels


def _load_label(
    path: Path, image_path: Path, shape: tuple[int, ...], affine: NDArray[np.float64]
) -> NDArray[np.integer]:
    """Read a label map on the grid of an image: whole numbers from 0 up, with at least one structure."""
    header, voxels = _read(path)
    check_intensities(voxels, str(path))
    if voxels.dtype.kind == "f":
        whole = np.rint(voxels)
        off = np.abs(voxels - whole)
        if off.max() > 1e-3:
            raise InputError(
                f"{path}: a label holds whole numbers, found {voxels.reshape(-1)[off.argmax()]:g}; "
                "is this an image or a probability map? threshold it first"
            )
        voxels = whole
    if voxels.max() > _MOST_ID:
        raise InputError(f"{path}: label ids end at {_MOST_ID}, found {voxels.max():.0f}; is this an image?")
    if voxels.min() < 0:
        raise InputError(f"{path}: label ids start at 0, found {voxels.min():g}; is this an image?")
    if not voxels.any():
        raise InputError(f"{path}: holds no structure, every voxel is 0")
    label = np.ascontiguousarray(to_zyx(_compact(voxels), header))
    _check_place(path, header, label.shape, str(image_path), shape, affine)
    return label


def _check_place(
    path: Path,
    header: nib.Nifti1Header,
    grid: tuple[int, ...],
    image_path: str,
    shape: tuple[int, ...],
    affine: NDArray[np.float64] | None,
) -> None:
    """Raise InputError unless a label map of ``grid`` has its image's grid, at the same place."""
    if grid != shape:
        raise InputError(
            f"{path}: label grid {grid} is unlike {shape} of {image_path} (z, y, x); "
            "resample the label to the image's grid"
        )
    assert affine is not None, "a volume from a file has an affine"
    shift = corner_shift_mm(shape, affine, affine_mm(header))
    if shift > 0.5 * min(spacing_zyx(affine)):
        raise InputError(
            f"{path}: is elsewhere than {image_path}, their corners are up to {shift:.3g} mm apart; "
            "resample it, for example with nilearn.image.resample_to_img(..., interpolation='nearest')"
        )


def _compact(label: NDArray) -> NDArray[np.integer]:
    """Return a label map as int16, or as int32 if its ids need it."""
    return label.astype(np.int16 if label.max() <= np.iinfo(np.int16).max else np.int32, copy=False)


def _label_ids(label: NDArray[np.integer]) -> list[int]:
    present: set[int] = set()
    for part in label:
        present.update(np.unique(part).tolist())
    return sorted(present - {0})


def _case_id(path: Path) -> str:
    name = path.name.removesuffix(".gz").rpartition(".")[0]
    return path.absolute().parent.name if name.lower() in FOLDER_NAMES_THE_CASE else name


def _encode_header(header: nib.Nifti1Header) -> str:
    """Return a header without its free text as text that JSON can hold."""
    kind = nib.Nifti2Header if isinstance(header, nib.Nifti2Header) else nib.Nifti1Header
    single = kind.from_header(header, check=False)
    for field in FREE_TEXT:
        if field in single:
            single[field] = b""
    return base64.b64encode(single.binaryblock).decode("ascii")


def _decode_header(text: str) -> nib.Nifti1Header:
    block = base64.b64decode(text)
    kind = nib.Nifti1Header if len(block) == nib.Nifti1Header.sizeof_hdr else nib.Nifti2Header
    return kind(block)


def _on_own_grid(array: NDArray, volume: Volume) -> nib.Nifti1Image:
    """Return a (z, y, x) array as a NIfTI image with the volume's affine, or with its spacing alone."""
    affine = np.diag((*reversed(volume.spacing), 1.0)) if volume.affine is None else volume.affine
    file = nib.Nifti1Image(array.T, affine)
    file.set_sform(affine, code="scanner")
    file.header.set_xyzt_units("mm")
    return file


def _check_name(path: Path) -> None:
    if not path.name.endswith((".nii", ".nii.gz")):
        raise InputError(f"{path}: a NIfTI file's name ends in .nii or .nii.gz")


def _write(file: nib.Nifti1Image, path: Path) -> None:
    """Write a file completely or not at all; equal voxels give equal bytes."""
    _check_name(path)
    try:
        with atomic_write(path) as raw:
            if path.suffix == ".gz":
                # The file contains neither name nor time, so equal voxels give equal bytes.
                with gzip.GzipFile("", "wb", compresslevel=1, fileobj=raw, mtime=0) as stream:
                    file.to_stream(stream)
            else:
                file.to_stream(raw)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error
