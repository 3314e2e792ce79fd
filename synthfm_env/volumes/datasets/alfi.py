"""Reads ALFI: unstained living cells over time."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import cc3d
import numpy as np
from numpy.typing import NDArray

from synthfm_env.errors import InputError
from synthfm_env.volumes.datasets.base import Item, Layout, complete_pairs, missing_halves
from synthfm_env.volumes.datasets.readers import read_picture
from synthfm_env.volumes.volume import Volume

GREYS = {"interphase": 128, "mitotic": 255}
LEAST_PIXELS = 200  # of a cell; smaller regions of a mask are specks at its border


class Alfi(Layout):
    """ALFI: nuclei of interphase cells and whole mitotic cells, in interference contrast.

    Eight sequences (MI01 to MI08) have masks; a sequence is a case, its frames are its images. A pixel counts as 1 mm.
    """

    name: ClassVar[str] = "alfi"
    licence: ClassVar[str] = "CC BY 4.0"
    address: ClassVar[str] = "https://doi.org/10.6084/m9.figshare.23798451"
    parts: ClassVar[Mapping[str, str]] = {
        "cells": "every cell is a structure, named by its class and a number",
        "classes": "all interphase nuclei are one structure, all mitotic cells another",
    }
    expected: ClassVar[tuple[str, ...]] = (
        "Data&Annotations/MI01/Images/I_MI01_0001.png",
        "Data&Annotations/MI01/Masks/M_MI01_0001.png",
    )

    def find(self, root: Path, part: str) -> list[Item]:
        """Return the frames with a mask."""
        return complete_pairs(self._pairs(root, part))

    def unpaired(self, root: Path, part: str) -> list[Path]:
        """Return the missing halves of pairs; see ``Layout.unpaired``."""
        return missing_halves(self._pairs(root, part))

    def _pairs(self, root: Path, part: str) -> list[Item]:
        """Return each image of a sequence with its mask."""
        home = root / "Data&Annotations" if (root / "Data&Annotations").is_dir() else root
        items = []
        for sequence in sorted(path for path in home.glob("MI*") if (path / "Masks").is_dir()):
            images, masks = sequence / "Images", sequence / "Masks"
            names = {path.stem.removeprefix("I_") for path in images.glob("I_*.png")}
            names |= {path.stem.removeprefix("M_") for path in masks.glob("M_*.png")}
            items += [
                Item(sequence.name, name, images / f"I_{name}.png", masks / f"M_{name}.png", part)
                for name in sorted(names)
            ]
        return items

    def load(self, item: Item, structures: Sequence[int | str] = ()) -> Volume:
        """Read a frame."""
        image, greys = read_picture(item.image), read_picture(item.label)
        if greys.shape != image.shape:
            raise InputError(f"{item.label}: is {greys.shape} pixels, {item.image} is {image.shape}")
        label, names = _cells(greys) if item.part == "cells" else _classes(greys)
        return Volume(
            image[None].astype(np.float32),
            label[None],
            (1.0, 1.0, 1.0),
            "other",
            item.case_id,
            names,
            metadata={"source": str(item.image)},
        )


def _classes(greys: NDArray[np.integer]) -> tuple[NDArray[np.int16], dict[int, str]]:
    """Return a label map of one id for each kind of cell, and the names."""
    label = np.zeros(greys.shape, dtype=np.int16)
    for key, grey in enumerate(GREYS.values(), start=1):
        label[greys == grey] = key
    return label, dict(enumerate(GREYS, start=1))


def _cells(greys: NDArray[np.integer]) -> tuple[NDArray[np.int16], dict[int, str]]:
    """Return a label map of one id for each cell, and the names."""
    label = np.zeros(greys.shape, dtype=np.int16)
    names: dict[int, str] = {}
    for kind, grey in GREYS.items():
        parts, count = cc3d.connected_components(greys == grey, connectivity=8, return_N=True)
        sizes = np.bincount(parts.ravel(), minlength=count + 1)
        for number, part in enumerate(np.flatnonzero(sizes[1:] >= LEAST_PIXELS) + 1, start=1):
            names[len(names) + 1] = f"{kind} {number}"
            label[parts == part] = len(names)
    return label, names
