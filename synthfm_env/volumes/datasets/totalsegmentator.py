"""Reads TotalSegmentator: a folder for each case, a file for each structure."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from synthfm_env.errors import InputError
from synthfm_env.volumes.datasets.base import Item, Layout, complete_pairs, missing_halves, wanted_ids
from synthfm_env.volumes.nifti import load_mask, load_volume
from synthfm_env.volumes.volume import Volume


def _words(text: str) -> list[str]:
    """Return the words of a text."""
    return text.split()


def _sides(*names: str) -> list[str]:
    """Return each name with both sides."""
    return [f"{name}_{side}" for name in names for side in ("left", "right")]


_VERTEBRAE = [
    f"vertebrae_{n}" for n in ("S1", *(f"L{i}" for i in range(5, 0, -1)), *(f"T{i}" for i in range(12, 0, -1)))
]
_VERTEBRAE += [f"vertebrae_C{i}" for i in range(7, 0, -1)]
_ORGANS = _words(
    """
    spleen kidney_right kidney_left gallbladder liver stomach pancreas adrenal_gland_right adrenal_gland_left
    lung_upper_lobe_left lung_lower_lobe_left lung_upper_lobe_right lung_middle_lobe_right lung_lower_lobe_right
    esophagus trachea thyroid_gland small_bowel duodenum colon urinary_bladder prostate kidney_cyst_left
    kidney_cyst_right sacrum
    """
)
_VESSELS = _words(
    """
    heart aorta pulmonary_vein brachiocephalic_trunk subclavian_artery_right subclavian_artery_left
    common_carotid_artery_right common_carotid_artery_left brachiocephalic_vein_left brachiocephalic_vein_right
    atrial_appendage_left superior_vena_cava inferior_vena_cava portal_vein_and_splenic_vein iliac_artery_left
    iliac_artery_right iliac_vena_left iliac_vena_right
    """
)
_BONES = _sides("humerus", "scapula", "clavicula", "femur", "hip")
_MUSCLES = _sides("gluteus_maximus", "gluteus_medius", "gluteus_minimus", "autochthon", "iliopsoas")
_RIBS = [f"rib_{side}_{i}" for side in ("left", "right") for i in range(1, 13)]
_ALL = [
    *_ORGANS,
    *_VERTEBRAE,
    *_VESSELS,
    *_BONES,
    "spinal_cord",
    *_MUSCLES,
    "brain",
    "skull",
    *_RIBS,
    "sternum",
    "costal_cartilages",
]


class TotalSegmentator(Layout):
    """TotalSegmentator, version 2: 117 structures in CT, and the data set of MR in the same form.

    Ids are those of the program's task "total". A file of a structure that is not among them, as some of the MR set, is
    passed over. A voxel that two files claim belongs to the later id. Its masks were drawn by a model and corrected by
    people. A structure whose file is missing or broken is left out of the label, the others are read;
    ``metadata["left_out"]`` contains each such structure with the reason.
    """

    name: ClassVar[str] = "totalsegmentator"
    licence: ClassVar[str] = "CC BY 4.0"
    address: ClassVar[str] = "https://zenodo.org/records/10047292"
    parts: ClassVar[Mapping[str, str]] = {"CT": "ct.nii.gz", "MR": "mri.nii.gz"}
    structures: ClassVar[Mapping[int, str]] = {key: name.replace("_", " ") for key, name in enumerate(_ALL, start=1)}
    expected: ClassVar[tuple[str, ...]] = ("s0000/ct.nii.gz", "s0000/segmentations/liver.nii.gz")

    def expected_files(self, part: str) -> Sequence[str]:
        """Return the image of one modality and one of its masks."""
        return (f"s0000/{self.parts[part]}", self.expected[1])

    def find(self, root: Path, part: str) -> list[Item]:
        """Return the folders with an image of that modality."""
        return complete_pairs(self._pairs(root, part))

    def unpaired(self, root: Path, part: str) -> list[Path]:
        """Return the missing images and folders of masks; a folder with the image of the other modality lacks none."""
        others = [name for key, name in self.parts.items() if key != part]
        lone = [item for item in self._pairs(root, part) if not any((item.label.parent / o).exists() for o in others)]
        return missing_halves(lone)

    def _pairs(self, root: Path, part: str) -> list[Item]:
        """Return each patient's image with the folder of its structures."""
        name = self.parts[part]
        return [
            Item(folder.name, folder.name, folder / name, folder / "segmentations", part)
            for folder in sorted(path for path in root.iterdir() if path.is_dir())
        ]

    def load(self, item: Item, structures: Sequence[int | str] = ()) -> Volume:
        """Read an image and the files of the structures that are wanted."""
        volume = load_volume(item.image, modality=item.part, case_id=item.case_id)
        label = np.zeros(volume.image.shape, dtype=np.int16)
        wanted = wanted_ids(structures, self.structures)
        left_out: dict[str, str] = {}
        for key in wanted:
            path = item.label / f"{_ALL[key - 1]}.nii.gz"
            try:
                label[load_mask(path, volume)] = key
            except InputError as error:
                left_out[self.structures[key]] = str(error)
        if len(left_out) == len(wanted):
            files = ", ".join(f"{_ALL[key - 1]}.nii.gz" for key in wanted[:5])
            raise InputError(f"{item.label}: holds none of {files}; {next(iter(left_out.values()))}")
        names = {key: self.structures[key] for key in wanted if self.structures[key] not in left_out}
        about = volume.metadata | {"left_out": left_out}
        return Volume(volume.image, label, volume.spacing, item.part, item.case_id, names, volume.affine, about)
