"""Reads CHAOS: abdominal CT and MR, with slices in DICOM and their truth in PNG."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from synthfm_env.errors import InputError
from synthfm_env.volumes.datasets.base import Item, Layout, complete_pairs, missing_halves
from synthfm_env.volumes.datasets.readers import in_canonical_axes, read_picture, read_series
from synthfm_env.volumes.volume import Volume

IMAGES = {
    "CT": ("CT", "DICOM_anon", "Ground"),
    "T1-in": ("MR", "T1DUAL/DICOM_anon/InPhase", "T1DUAL/Ground"),
    "T1-out": ("MR", "T1DUAL/DICOM_anon/OutPhase", "T1DUAL/Ground"),
    "T2": ("MR", "T2SPIR/DICOM_anon", "T2SPIR/Ground"),
}
# Lowest and highest grey level of each label id, from the challenge.
GREYS_OF_MR = {
    1: (55, 70),
    2: (110, 135),
    3: (175, 200),
    4: (240, 255),
}


class Chaos(Layout):
    """CHAOS: liver in CT; liver, kidneys and spleen in MR. The training sets, which have a truth.

    A mask belongs to the slice whose file has its name; if the names differ, as in CT, the first mask by name
    belongs to the first slice by name, and so on. Then slices are put in order by their positions: file names may run
    against the body's axis.
    """

    name: ClassVar[str] = "chaos"
    licence: ClassVar[str] = "CC BY-NC-SA 4.0"
    address: ClassVar[str] = "https://zenodo.org/records/3431873"
    parts: ClassVar[Mapping[str, str]] = {
        "CT": "portal phase, the liver alone",
        "T1-in": "T1-DUAL, in phase",
        "T1-out": "T1-DUAL, out of phase",
        "T2": "T2-SPIR",
    }
    structures: ClassVar[Mapping[int, str]] = {1: "liver", 2: "kidney right", 3: "kidney left", 4: "spleen"}
    expected: ClassVar[tuple[str, ...]] = (
        "Train_Sets/CT/1/DICOM_anon/*.dcm with Train_Sets/CT/1/Ground/*.png",
        "Train_Sets/MR/1/T2SPIR/DICOM_anon/*.dcm with Train_Sets/MR/1/T2SPIR/Ground/*.png",
    )

    def expected_files(self, part: str) -> Sequence[str]:
        """Return the slices and the masks of the first patient."""
        modality, image, label = IMAGES[part]
        return (f"Train_Sets/{modality}/1/{image}/*.dcm", f"Train_Sets/{modality}/1/{label}/*.png")

    def find(self, root: Path, part: str) -> list[Item]:
        """Return the patients of a modality."""
        return complete_pairs(self._pairs(root, part))

    def unpaired(self, root: Path, part: str) -> list[Path]:
        """Return the missing halves of pairs; see ``Layout.unpaired``."""
        return missing_halves(self._pairs(root, part))

    def _pairs(self, root: Path, part: str) -> list[Item]:
        """Return each patient's series with its folder of label pictures."""
        modality, image, label = IMAGES[part]
        places = (root / "Train_Sets", root / "CHAOS_Train_Sets" / "Train_Sets", root)
        home = next((place / modality for place in places if (place / modality).is_dir()), None)
        if home is None:
            return []
        folders = sorted((path for path in home.iterdir() if path.name.isdecimal()), key=lambda path: int(path.name))
        return [
            Item(f"{modality}-{folder.name}", f"{modality}-{folder.name}-{part}", folder / image, folder / label, part)
            for folder in folders
        ]

    def load(self, item: Item, structures: Sequence[int | str] = ()) -> Volume:
        """Read the slices and their masks."""
        slices, masks = sorted(item.image.glob("*.dcm")), sorted(item.label.glob("*.png"))
        if not slices or len(slices) != len(masks):
            raise InputError(
                f"{item.image}: {len(slices)} slices and {len(masks)} masks in {item.label}, expected as many"
            )
        if {path.stem for path in slices} == {path.stem for path in masks}:
            masks = [item.label / f"{path.stem}.png" for path in slices]
        image, order, affine = read_series(slices)
        label = np.stack([_ids(read_picture(masks[i]), item.part) for i in order])
        if label.shape != image.shape:
            raise InputError(f"{item.label}: masks of {label.shape[1:]} for slices of {image.shape[1:]} pixels")
        modality = IMAGES[item.part][0]
        names = {1: self.structures[1]} if modality == "CT" else dict(self.structures)
        about = {"modality": modality, "case_id": item.case_id, "structures": names}
        return in_canonical_axes(image, label, affine, metadata={"source": str(item.image)}, **about)


def _ids(greys: NDArray[np.integer], part: str) -> NDArray[np.int16]:
    """Return label ids for the grey levels of label pictures."""
    ids = np.zeros(greys.shape, dtype=np.int16)
    if part == "CT":
        ids[greys > 0] = 1
    else:
        for key, (low, high) in GREYS_OF_MR.items():
            ids[(greys >= low) & (greys <= high)] = key
    return ids
