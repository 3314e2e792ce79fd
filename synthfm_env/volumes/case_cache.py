"""Caches cases on a fixed grid on disk: decodes each once, and memory-maps it afterwards."""

import hashlib
import json
import math
import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from synthfm_env.arguments import are_lengths, is_whole
from synthfm_env.errors import InputError
from synthfm_env.volumes.case_source import CaseSource
from synthfm_env.volumes.fixed_grid import FixedGrid, NativeTruth, count_native, native_voxels
from synthfm_env.volumes.intensity import to_uint8
from synthfm_env.volumes.volume import MODALITIES, Volume

FORMAT: Final = 2  # to be raised if the content of the files changes


class CacheError(InputError):
    """The folder of the cache cannot be written, so that no case can be decoded."""

    def __init__(self, folder: Path, error: OSError) -> None:
        super().__init__(f"cache {folder}: cannot be written ({error.strerror}); give cache=FOLDER")


@dataclass(frozen=True, slots=True, eq=False)
class CachedCase:
    """A case on a fixed grid, its arrays on disk.

    Attributes:
        folder: of its arrays.
        about: case id, image id, modality, native grid, and of each structure its name and counts.
    """

    folder: Path
    about: dict[str, Any]

    @property
    def structures(self) -> dict[int, str]:
        """Name of each structure of the native label by label id, including those outside the grid."""
        return {int(key): about["name"] for key, about in self.about["structures"].items()}

    def voxels(self, structure: int) -> int:
        """Return the number of voxels of a structure on the fixed grid."""
        return int(self.about["structures"][str(structure)]["voxels"])

    def volume(self, grid: FixedGrid) -> Volume:
        """Return image (uint8) and label (integers, memory-mapped) on the fixed grid."""
        return Volume(
            np.array(_mapped(self.folder / "image.npy")),
            _mapped(self.folder / "label.npy"),
            spacing=grid.spacing,
            modality=self.about["modality"],
            case_id=self.about["image_id"],
            structures=self.structures,
        )

    def native_truth(self, structure: int, grid: FixedGrid) -> NativeTruth:
        """Return the counts from which Dice of a structure on the native grid is computed."""
        about = self.about["structures"][str(structure)]
        z, y, x = about["corner"]
        size = tuple(about["size"])
        flat = _mapped(self.folder / "counts.npy")[about["offset"] : about["offset"] + int(np.prod(size))]
        native = self.about["native_spacing"]
        voxels = native_voxels(grid, self.about["native_shape"], (native[0], native[1], native[2]))
        return NativeTruth((z, y, x), np.array(flat).reshape(size), voxels, about["total"])


class CaseCache:
    """Decodes cases onto a fixed grid and keeps them in a folder, which several processes may share.

    A case is decoded again if its files, the grid or ``FORMAT`` changed, or if the cached files are damaged.

    Args:
        folder: where cases are kept; None for ``~/.cache/synthfm_env/cases``.
        grid: of all cases.

    Raises:
        CacheError: the folder cannot be written.
    """

    def __init__(self, folder: str | Path | None, grid: FixedGrid) -> None:
        self.folder = Path(folder) if folder is not None else Path.home() / ".cache" / "synthfm_env" / "cases"
        self.grid = grid
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._new_folder().rmdir()  # a folder that exists may be read-only
        except OSError as error:
            raise CacheError(self.folder, error) from None

    def open(self, source: CaseSource) -> CachedCase:
        """Return a case, decoded now if it was not before.

        Raises:
            CacheError: the folder cannot be written.
            InputError: the case cannot be read, or has no label.
        """
        key = json.dumps([FORMAT, self.grid.spacing, self.grid.shape, source.image_id, source.identity], sort_keys=True)
        folder = self.folder / hashlib.sha256(key.encode()).hexdigest()[:24]
        return self._read(folder) or self._decode(source, folder)

    def _read(self, folder: Path) -> CachedCase | None:
        """Return a case that is cached completely, else None."""
        try:
            about = json.loads((folder / "case.json").read_text(encoding="utf-8"))
            image, label, counts = (_mapped(folder / f"{name}.npy") for name in ("image", "label", "counts"))
        except (OSError, ValueError, RecursionError):
            return None
        if not image.shape == label.shape == self.grid.shape or not _is_description(about, counts.size):
            return None
        return CachedCase(folder, about)

    def _decode(self, source: CaseSource, folder: Path) -> CachedCase:
        """Resample a case to the grid and write it to a folder of the cache."""
        volume = source.load()
        if volume.label is None:
            raise InputError(f"{source.image_id}: has no label")
        image = self.grid.resample_image(to_uint8(volume.image, volume.modality), volume.spacing)
        label = self.grid.resample_label(volume.label, volume.spacing)
        structures, counts = self._count(volume, label)
        about = {
            "case_id": source.case_id,
            "image_id": source.image_id,
            "modality": volume.modality,
            "native_shape": list(volume.image.shape),
            "native_spacing": list(volume.spacing),
            "structures": structures,
        }
        # Write to another folder and rename it, so that other processes see a complete case or none.
        try:
            unfinished = self._new_folder()
            try:
                for name, array in (("image", image), ("label", label), ("counts", counts)):
                    np.save(unfinished / f"{name}.npy", array, allow_pickle=False)
                (unfinished / "case.json").write_text(json.dumps(about), encoding="utf-8")
                self._move(unfinished, folder)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
        except OSError as error:
            raise CacheError(self.folder, error) from None
        return CachedCase(folder, about)

    def _new_folder(self) -> Path:
        """Make a folder of a random name in the cache. Its mode follows the umask, so that a group can share it."""
        folder = self.folder / f".unfinished-{secrets.token_hex(8)}"
        folder.mkdir()
        return folder

    def _move(self, unfinished: Path, folder: Path) -> None:
        """Rename a finished folder; a damaged one of that name is removed, a complete one of another process stays."""
        if folder.exists() and self._read(folder) is None:
            shutil.rmtree(folder)
        try:
            os.rename(unfinished, folder)
        except OSError:
            if self._read(folder) is None:  # no other process has written the case
                raise

    def _count(
        self, volume: Volume, label: NDArray[np.integer]
    ) -> tuple[dict[str, dict[str, Any]], NDArray[np.unsignedinteger]]:
        """Return name and counts of each structure, and the voxel counts of all, concatenated."""
        assert volume.label is not None
        structures: dict[str, dict[str, Any]] = {}
        parts: list[NDArray[Any]] = []
        offset = 0
        for key in (int(i) for i in np.unique(volume.label) if i):
            corner, counts, total = count_native(self.grid, volume.label, volume.spacing, key)
            structures[str(key)] = {
                "name": volume.structures.get(key, str(key)),
                "voxels": int(np.count_nonzero(label == key)),
                "corner": list(corner),
                "size": list(counts.shape),
                "offset": offset,
                "total": total,
            }
            parts.append(counts.ravel())
            offset += counts.size
        return structures, np.concatenate([np.zeros(0, np.uint8), *parts])


def _is_description(about: Any, counts: int) -> bool:
    """Tell whether the content of a ``case.json`` is what ``CaseCache`` writes beside so many counts."""
    try:
        parts = list(about["structures"].values())
        texts = [about["case_id"], about["image_id"], *(part["name"] for part in parts)]
        sides = [about["native_shape"], *(part[key] for part in parts for key in ("corner", "size"))]
        numbers = [part[key] for part in parts for key in ("voxels", "offset", "total")]
        return (
            about["modality"] in MODALITIES
            and all(isinstance(text, str) for text in texts)
            and all(len(side) == 3 and all(is_whole(n) and n >= 0 for n in side) for side in sides)
            and are_lengths(about["native_spacing"])
            and all(key.removeprefix("-").isdecimal() for key in about["structures"])
            and all(is_whole(number) and number >= 0 for number in numbers)
            and all(part["offset"] + math.prod(part["size"]) <= counts for part in parts)
        )
    except (AttributeError, KeyError, TypeError):
        return False


def _mapped(path: Path) -> NDArray[Any]:
    array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return array
