"""Reads CAMUS: echocardiography in two views, single frames and sequences."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from synthfm_env.errors import InputError
from synthfm_env.volumes.datasets.base import Item, Layout
from synthfm_env.volumes.datasets.nnunet import with_names
from synthfm_env.volumes.datasets.readers import read_itk
from synthfm_env.volumes.nifti import load_volume
from synthfm_env.volumes.volume import Volume

ENDINGS = (".nii.gz", ".nii", ".mhd")
FRAMES = {"ED": ("ED",), "ES": ("ES",), "sequence": ("half_sequence", "sequence")}
_PATIENT = re.compile(r"patient\d+$")


class Camus(Layout):
    """CAMUS: left ventricle, its wall and left atrium in apical ultrasound of 500 patients.

    NIfTI as released today (``database_nifti``), and mhd as released first (``training``). A sequence, from end
    diastole to end systole, is a 2D+t volume: z counts its frames, and their spacing is 1 mm by convention. The first
    release has no truth for sequences.
    """

    name: ClassVar[str] = "camus"
    licence: ClassVar[str] = "CC BY-NC-SA 4.0, for research only"
    address: ClassVar[str] = "https://humanheart-project.creatis.insa-lyon.fr/database"
    parts: ClassVar[Mapping[str, str]] = {
        f"{view}-{frame}": f"{words}, {what}"
        for view, words in (("2CH", "two chambers"), ("4CH", "four chambers"))
        for frame, what in (("ED", "end diastole"), ("ES", "end systole"), ("sequence", "all frames between, 2D+t"))
    }
    structures: ClassVar[Mapping[int, str]] = {1: "left ventricle", 2: "left ventricle wall", 3: "left atrium"}
    expected: ClassVar[tuple[str, ...]] = (
        "database_nifti/patient0001/patient0001_2CH_ED.nii.gz",
        "database_nifti/patient0001/patient0001_2CH_ED_gt.nii.gz",
    )

    def expected_files(self, part: str) -> Sequence[str]:
        """Return an image and its truth, as released today."""
        view, _, frame = part.partition("-")
        name = f"database_nifti/patient0001/patient0001_{view}_{FRAMES[frame][0]}"
        return (f"{name}.nii.gz", f"{name}_gt.nii.gz")

    def find(self, root: Path, part: str) -> list[Item]:
        """Return one image of each patient that has it with a truth."""
        view, _, frame = part.partition("-")
        items = []
        for folder in sorted(filter(_is_patient, self._home(root).iterdir())):
            for name in FRAMES[frame]:
                image, label = (_file(folder / f"{folder.name}_{view}_{name}{gt}") for gt in ("", "_gt"))
                if image and label:
                    items.append(Item(folder.name, f"{folder.name}_{view}_{name}", image, label, part))
        return items

    def unpaired(self, root: Path, part: str) -> list[Path]:
        """Return the missing halves of pairs; in mhd sequences without a truth are usual."""
        view, _, frame = part.partition("-")
        missing = []
        for folder in sorted(filter(_is_patient, self._home(root).iterdir())):
            for name in FRAMES[frame]:
                image, label = (folder / f"{folder.name}_{view}_{name}{gt}" for gt in ("", "_gt"))
                halves = [file for file in (_file(image), _file(label)) if file]
                if len(halves) == 1 and (frame != "sequence" or halves[0].suffix != ".mhd"):
                    lone = label if _file(image) else image
                    ending = halves[0].name[halves[0].name.index(".") :]
                    missing.append(lone.with_name(lone.name + ending))
        return missing

    def _home(self, root: Path) -> Path:
        """Return the folder of the patients, which hosts pack at several depths."""
        homes = [root / "database_nifti", root / "training", root]
        return next((place for place in homes if place.is_dir() and any(map(_is_patient, place.iterdir()))), root)

    def load(self, item: Item, structures: Sequence[int | str] = ()) -> Volume:
        """Read a frame or a sequence."""
        if item.image.suffix == ".mhd":
            volume = _from_mhd(item)
        else:
            volume = load_volume(item.image, item.label, modality="US", case_id=item.case_id)
        if item.part.endswith("sequence"):  # the third spacing is a time
            _, y, x = volume.spacing
            volume = Volume(volume.image, volume.label, (1.0, y, x), "US", item.case_id, metadata=volume.metadata)
        return with_names(volume, self.structures)


def _from_mhd(item: Item) -> Volume:
    """Read an image and its label in the older .mhd form."""
    voxels, spacing = read_itk(item.image)
    label, _ = read_itk(item.label)
    if label.shape != voxels.shape:
        raise InputError(f"{item.label}: grid {label.shape} is unlike {voxels.shape} of {item.image} (z, y, x)")
    image = voxels.astype(np.float32)
    return Volume(image, label.astype(np.int16), spacing, "US", item.case_id, metadata={"source": str(item.image)})


def _is_patient(path: Path) -> bool:
    """Tell whether a folder holds a patient."""
    return path.is_dir() and bool(_PATIENT.match(path.name))


def _file(path: Path) -> Path | None:
    """Return the file of a name with one of the known endings."""
    candidates = (path.with_name(path.name + ending) for ending in ENDINGS)
    return next((file for file in candidates if file.is_file()), None)
