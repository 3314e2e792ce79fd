"""Reads the npz files of the CVPR 2025 challenge on interactive 3D segmentation."""

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from synthfm_env.errors import InputError
from synthfm_env.memory_limit import check_memory
from synthfm_env.volumes.datasets.base import Item, Layout
from synthfm_env.volumes.volume import Volume

_MODALITIES = {"CT": "CT", "MR": "MR", "MRI": "MR", "US": "US"}


class Cvpr25(Layout):
    """CVPR 2025's challenge: volumes in 8 bits with several structures, one npz file a case.

    A file holds ``imgs`` (D, H, W), ``spacing`` (z, y, x) in mm and ``gts``, or ``gts`` is in a file of the same name
    below ``3D_val_gt``. The modality is the beginning of the file's name. Structures have numbers, no names.
    """

    name: ClassVar[str] = "cvpr25"
    licence: ClassVar[str] = "each data set its own"
    address: ClassVar[str] = "https://www.codabench.org/competitions/5263/"
    expected: ClassVar[tuple[str, ...]] = ("3D_val_npz/CT_case.npz", "3D_val_gt/CT_case.npz")

    def find(self, root: Path, part: str) -> list[Item]:
        """Return the files, each with the file of its truth."""
        home = root / "3D_val_npz" if (root / "3D_val_npz").is_dir() else root
        items = []
        for path in sorted(home.glob("*.npz")):
            truth = root / "3D_val_gt" / path.name
            items.append(Item(path.stem, path.stem, path, truth if truth.is_file() else path))
        return items

    def load(self, item: Item, structures: Sequence[int | str] = ()) -> Volume:
        """Read one case."""
        image, spacing = _read(item.image, "imgs"), _read(item.image, "spacing")
        label = self._truth(item)
        if image.ndim != 3 or label.shape != image.shape or label.dtype.kind not in "bui":
            raise InputError(
                f"{item.image}: imgs {image.shape} and gts {label.dtype} {label.shape}: expected a volume and labels"
            )
        if spacing.shape != (3,) or not (np.isfinite(spacing) & (spacing > 0)).all():
            raise InputError(f"{item.image}: spacing {spacing.tolist()}: expected three positive lengths in mm")
        ids = [int(i) for i in np.unique(label) if i]
        z, y, x = (float(mm) for mm in spacing)
        return Volume(
            image.astype(np.float32),
            label.astype(np.int16),
            (z, y, x),
            _MODALITIES.get(item.image_id.partition("_")[0].upper(), "other"),
            item.case_id,
            {i: str(i) for i in ids},
            metadata={"source": str(item.image)},
        )

    @staticmethod
    def _truth(item: Item) -> NDArray:
        try:
            return _read(item.label, "gts")
        except InputError as error:
            if item.label != item.image:
                raise
            home = item.image.parent
            beside = (home.parent if home.name == "3D_val_npz" else home) / "3D_val_gt" / item.image.name
            raise InputError(f"{error}; expected it there or in {beside}") from None


def _read(path: Path, key: str) -> NDArray:
    """Return one array of an npz file, without running code from it."""
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            check_memory(archive.getinfo(f"{key}.npy").file_size, f"{path}: {key}")
            return np.asarray(np.lib.format.read_array(io.BytesIO(archive.read(f"{key}.npy")), allow_pickle=False))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: holds no array {key!r}: {error}") from None
