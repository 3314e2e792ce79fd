"""Reads folders in nnU-Net's form, among them the Medical Segmentation Decathlon, AMOS and OAI-ZIB, and plain ones."""

import re
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from synthfm_env.errors import InputError
from synthfm_env.printable import printable, shown
from synthfm_env.text_files import read_json_table
from synthfm_env.volumes.datasets.base import Item, Layout
from synthfm_env.volumes.nifti import load_volume
from synthfm_env.volumes.structure_names import canonical_name
from synthfm_env.volumes.volume import MODALITIES, Volume

ENDINGS = (".nii.gz", ".nii")
PAIRS = (("imagesTr", "labelsTr"), ("imagesTs", "labelsTs"), ("imagesVa", "labelsVa"), ("images", "labels"))
_CHANNEL = re.compile(r"_0000$")
_OTHER_CHANNEL = re.compile(r"_000[1-9]$")


class Folder(Layout):
    """Your own NIfTI files: nnU-Net's imagesTr and labelsTr, images and labels, or a folder a case.

    - ``imagesTr/CASE_0000.nii.gz`` with ``labelsTr/CASE.nii.gz``, and the same with ``Ts`` or ``Va``; of several
      channels the first is played. ``dataset.json`` in the same folder names structures and modality.
    - ``images/CASE.nii.gz`` with ``labels/CASE.nii.gz``.
    - ``CASE/image.nii.gz`` with ``CASE/label.nii.gz``; ``CASE/meta.json`` may name ``labels`` (id to name) and
      ``modality``.
    """

    name: ClassVar[str] = "folder"
    licence: ClassVar[str] = "yours"
    address: ClassVar[str] = "your own disk"
    expected: ClassVar[tuple[str, ...]] = (
        "imagesTr/CASE_0000.nii.gz with labelsTr/CASE.nii.gz",
        "images/CASE.nii.gz with labels/CASE.nii.gz",
        "CASE/image.nii.gz with CASE/label.nii.gz",
    )

    def find(self, root: Path, part: str) -> list[Item]:
        """Return the pairs of all three forms; an image without a label is passed over."""
        return [*_in_two_folders(root), *_in_case_folders(root)]

    def unpaired(self, root: Path, part: str) -> list[Path]:
        """Return the missing halves of pairs; images whose folder of labels does not exist lack none."""
        lone = [path for images, labels in PAIRS for path in _missing_files(root / images, root / labels)]
        return lone + _missing_in_case_folders(root)

    def described_by(self, item: Item) -> Sequence[Path]:
        """Return ``meta.json`` beside an image in a case's folder, else ``dataset.json`` above it."""
        return [_description_of(item)]

    def load(self, item: Item, structures: Sequence[int | str] = ()) -> Volume:
        """Read a pair; ``dataset.json`` or ``meta.json`` names the structures."""
        names, modality = _names_and_modality(item)
        return with_names(load_volume(item.image, item.label, modality=modality, case_id=item.case_id), names)


class Decathlon(Folder):
    """Medical Segmentation Decathlon: one task, imagesTr and labelsTr as its archive unpacks."""

    name: ClassVar[str] = "msd"
    licence: ClassVar[str] = "CC BY-SA 4.0"
    address: ClassVar[str] = "http://medicaldecathlon.com"
    expected: ClassVar[tuple[str, ...]] = ("dataset.json", "imagesTr/lung_001.nii.gz", "labelsTr/lung_001.nii.gz")

    def find(self, root: Path, part: str) -> list[Item]:
        """Return the training pairs; the test images have no public truth."""
        return list(_pairs(root / "imagesTr", root / "labelsTr"))

    def unpaired(self, root: Path, part: str) -> list[Path]:
        """Return the missing halves of training pairs."""
        return _missing_files(root / "imagesTr", root / "labelsTr")


class Amos(Folder):
    """AMOS 2022: 15 abdominal organs; numbers up to 500 are CT, above they are MR.

    Id 15 is the prostate of men and the uterus of women, and the files do not tell which.
    """

    name: ClassVar[str] = "amos"
    licence: ClassVar[str] = "CC BY 4.0"
    address: ClassVar[str] = "https://zenodo.org/records/7262581"
    parts: ClassVar[Mapping[str, str]] = {"CT": "amos_0001 to amos_0500", "MR": "amos_0501 and above"}
    structures: ClassVar[Mapping[int, str]] = dict(
        enumerate(
            (
                "spleen",
                "kidney right",
                "kidney left",
                "gallbladder",
                "esophagus",
                "liver",
                "stomach",
                "aorta",
                "inferior vena cava",
                "pancreas",
                "adrenal gland right",
                "adrenal gland left",
                "duodenum",
                "urinary bladder",
                "prostate/uterus",
            ),
            start=1,
        )
    )
    expected: ClassVar[tuple[str, ...]] = (
        "imagesTr/amos_0001.nii.gz",
        "labelsTr/amos_0001.nii.gz",
    )
    last_ct: ClassVar[int] = 500

    def expected_files(self, part: str) -> Sequence[str]:
        """Return a pair of one modality."""
        number = "0001" if part == "CT" else "0507"
        return tuple(f"{folder}/amos_{number}.nii.gz" for folder in ("imagesTr", "labelsTr"))

    def find(self, root: Path, part: str) -> list[Item]:
        """Return the images of one modality, of training and validation."""
        return [item for item in _in_two_folders(root) if self._modality(item.image_id) == part]

    def unpaired(self, root: Path, part: str) -> list[Path]:
        """Return the missing halves of training and validation pairs of one modality."""
        lone = [
            path for which in ("Tr", "Va") for path in _missing_files(root / f"images{which}", root / f"labels{which}")
        ]
        return [path for path in lone if self._modality(stem(path)) == part]

    def load(self, item: Item, structures: Sequence[int | str] = ()) -> Volume:
        """Read a pair."""
        modality = self._modality(item.image_id)
        return with_names(load_volume(item.image, item.label, modality=modality, case_id=item.case_id), self.structures)

    def _modality(self, image_id: str) -> str:
        """Return the modality of an image by its number, as AMOS counts."""
        number = re.search(r"(\d+)$", image_id)
        return "CT" if number and int(number[1]) <= self.last_ct else "MR"


class OaiZib(Folder):
    """OAI-ZIB, as OAIZIB-CM: bones and cartilage of the knee in 507 MR scans (DESS) of the Osteoarthritis Initiative.

    Tibial cartilage is in two parts there, medial and lateral.
    """

    name: ClassVar[str] = "oaizib-cm"
    licence: ClassVar[str] = "CC BY-NC 4.0; the images are the Osteoarthritis Initiative's"
    address: ClassVar[str] = "https://huggingface.co/datasets/YongchengYAO/OAIZIB-CM"
    parts: ClassVar[Mapping[str, str]] = {"train": "404 scans: imagesTr", "test": "103 scans: imagesTs"}
    structures: ClassVar[Mapping[int, str]] = {
        1: "femur",
        2: "cartilage femoral",
        3: "tibia",
        4: "cartilage tibial medial",
        5: "cartilage tibial lateral",
    }
    expected: ClassVar[tuple[str, ...]] = (
        "imagesTs/oaizib_404_0000.nii.gz",
        "labelsTs/oaizib_404.nii.gz",
    )

    def expected_files(self, part: str) -> Sequence[str]:
        """Return a pair of one side of the host's split."""
        end, number = ("Tr", "001") if part == "train" else ("Ts", "404")
        return (f"images{end}/oaizib_{number}_0000.nii.gz", f"labels{end}/oaizib_{number}.nii.gz")

    def find(self, root: Path, part: str) -> list[Item]:
        """Return the pairs of one side of the host's split."""
        return list(_pairs(*self._folders(root, part)))

    def unpaired(self, root: Path, part: str) -> list[Path]:
        """Return the missing halves of pairs."""
        return _missing_files(*self._folders(root, part))

    def load(self, item: Item, structures: Sequence[int | str] = ()) -> Volume:
        """Read a pair."""
        return with_names(load_volume(item.image, item.label, modality="MR", case_id=item.case_id), self.structures)

    def _folders(self, root: Path, part: str) -> tuple[Path, Path]:
        """Return the folders of images and of labels of a part."""
        end = "Tr" if part == "train" else "Ts"
        return root / f"images{end}", root / f"labels{end}"


def with_names(volume: Volume, names: Mapping[int, str]) -> Volume:
    """Add the names of structures to a volume, see ``canonical_name``, and return it."""
    volume.structures.update({key: canonical_name(name) for key, name in names.items()})
    return volume


def stem(path: Path) -> str:
    """Return a NIfTI file's name without its ending."""
    return path.name.removesuffix(".gz").removesuffix(".nii")


def _in_two_folders(root: Path) -> Iterator[Item]:
    """Yield the cases of a folder of images beside a folder of labels."""
    for images, labels in PAIRS:
        yield from _pairs(root / images, root / labels)


def _pairs(images: Path, labels: Path) -> Iterator[Item]:
    """Yield each image with the label of its case."""
    if not images.is_dir() or not labels.is_dir():
        return
    truths = {stem(path): path for path in _niftis(labels)}
    for path in _niftis(images):
        case = _case_of(path, truths)
        if case in truths:
            yield Item(case, case, path, truths[case])


def _case_of(image: Path, truths: Container[str]) -> str:
    """Return the name that an image's truth has; empty for a further channel of an image."""
    name = stem(image)
    if name in truths:
        return name
    base = _OTHER_CHANNEL.sub("", name)
    # The number of amos_0007 is no channel: there is no first channel amos_0000.
    first = image.with_name(image.name.replace(name, f"{base}_0000", 1))
    return "" if base != name and (base in truths or first.exists()) else _CHANNEL.sub("", name)


def _missing_files(images: Path, labels: Path) -> list[Path]:
    """Return the files that are missing in one of two folders."""
    if not images.is_dir() or not labels.is_dir():
        return []
    truths = {stem(path) for path in _niftis(labels)}
    cases = {_case_of(path, truths) for path in _niftis(images)} - {""}
    channel = "_0000" if any(_CHANNEL.search(stem(path)) for path in _niftis(images)) else ""
    return [
        *(labels / f"{case}.nii.gz" for case in sorted(cases - truths)),
        *(images / f"{case}{channel}.nii.gz" for case in sorted(truths - cases)),
    ]


def _in_case_folders(root: Path) -> Iterator[Item]:
    """Yield the cases of folders that hold an image and a label each."""
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        image, label = (_first(folder, name) for name in ("image", "label"))
        if image and label:
            yield Item(folder.name, folder.name, image, label)


def _missing_in_case_folders(root: Path) -> list[Path]:
    """Return the missing image or label of each folder that has only the other one."""
    missing = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        image, label = (_first(folder, name) for name in ("image", "label"))
        if (image is None) != (label is None):
            missing.append(folder / ("label.nii.gz" if image else "image.nii.gz"))
    return missing


def _first(folder: Path, name: str) -> Path | None:
    """Return the file of a name with one of the known endings."""
    return next((folder / (name + ending) for ending in ENDINGS if (folder / (name + ending)).is_file()), None)


def _niftis(folder: Path) -> list[Path]:
    """Return the NIfTI files of a folder."""
    # macOS adds files such as ._CASE.nii.gz, which are no images.
    return sorted(path for path in folder.iterdir() if path.name.endswith(ENDINGS) and not path.name.startswith("."))


def _names_and_modality(item: Item) -> tuple[dict[int, str], str | None]:
    """Return the names of label ids and the modality from a file beside the images, if there is one."""
    path = _description_of(item)
    if not path.is_file():
        return {}, None
    about = read_json_table(path, str(path))
    labels, modality = about.get("labels", {}), about.get("modality", "")
    if path.name == "dataset.json":
        channels = about.get("channel_names") or modality or {}
        modality = next(iter(channels.values()), "") if isinstance(channels, dict) else str(channels)
    return _names(labels, item.image.parent), _modality(str(modality))


def _description_of(item: Item) -> Path:
    """Return where the names of an image's structures and its modality are, if they are."""
    if item.image.name.startswith("image."):
        return item.image.parent / "meta.json"
    return item.image.parent.parent / "dataset.json"


def _names(labels: Any, path: Path) -> dict[int, str]:
    """Return name by id, from ``{"1": "liver"}`` (version 1 of the format) or ``{"liver": 1}`` (version 2)."""
    if not isinstance(labels, Mapping):
        raise InputError(f"{path}: labels: expected a table of ids and names, got {shown(labels)}")
    names = {}
    for key, value in labels.items():
        if key.isdecimal():
            names[int(key)] = printable(value)
        elif isinstance(value, int):
            names[value] = key
    return {key: name for key, name in names.items() if key}


def _modality(text: str) -> str | None:
    """Return the project's name of a modality, or None for other texts; the modality is then guessed."""
    low = text.lower()
    if low.startswith(("us", "ultrasound")):
        return "US"
    if low.startswith(("mr", "t1", "t2", "flair", "adc")):
        return "MR"
    return "CT" if low.startswith("ct") else next((name for name in MODALITIES if name.lower() == low), None)
