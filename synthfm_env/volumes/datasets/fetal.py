"""Reads fetal ultrasound: HC18 (head circumference) and FH-PS-AOP (head and symphysis during labour)."""

import csv
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage import measure
from skimage.measure import regionprops

from synthfm_env.errors import InputError
from synthfm_env.volumes.datasets.base import Item, Layout, complete_pairs, missing_halves
from synthfm_env.volumes.datasets.readers import read_itk, read_picture
from synthfm_env.volumes.intensity import LUMA
from synthfm_env.volumes.volume import Volume

SIZES = "training_set_pixel_size_and_HC.csv"
LEAST_INSIDE = 2.0  # area of the filled ellipse, in areas of its outline; less means that the outline was open


class HC18(Layout):
    """HC18: the fetal head in 999 ultrasound images of 806 examinations.

    The truth is the outline of an ellipse, which is filled here, also if the image's edge cuts it off. Images of one
    examination (``010_HC``, ``010_2HC``) count as one case. Pixel sizes come from the csv.
    The test set has no truth.
    """

    name: ClassVar[str] = "hc18"
    licence: ClassVar[str] = "CC BY 4.0"
    address: ClassVar[str] = "https://zenodo.org/records/1327317"
    structures: ClassVar[Mapping[int, str]] = {1: "fetal head"}
    expected: ClassVar[tuple[str, ...]] = ("training_set/000_HC.png", "training_set/000_HC_Annotation.png", SIZES)

    def find(self, root: Path, part: str) -> list[Item]:
        """Return the images with an outline."""
        return complete_pairs(self._pairs(root))

    def unpaired(self, root: Path, part: str) -> list[Path]:
        """Return the missing halves of pairs; see ``Layout.unpaired``."""
        return missing_halves(self._pairs(root))

    def _pairs(self, root: Path) -> list[Item]:
        """Return each image with its label."""
        home = root / "training_set" if (root / "training_set").is_dir() else root
        ending = "_Annotation.png"
        names = {path.stem for path in home.glob("*HC.png")}
        names |= {path.name.removesuffix(ending) for path in home.glob(f"*HC{ending}")}
        return [Item(n.split("_")[0], n, home / f"{n}.png", home / f"{n}{ending}") for n in sorted(names)]

    def described_by(self, item: Item) -> Sequence[Path]:
        """Return the tables of pixel sizes."""
        return _tables_of_sizes(item.image)

    def load(self, item: Item, structures: Sequence[int | str] = ()) -> Volume:
        """Read an image, fill its outline, and look up its pixel size."""
        image, outline = read_picture(item.image), read_picture(item.label) > 0
        if outline.shape != image.shape:
            raise InputError(f"{item.label}: is {outline.shape} pixels, {item.image} is {image.shape}")
        size = _pixel_size(item.image)
        try:
            head = fill_ellipse(outline)
        except ValueError as error:
            raise InputError(f"{item.label}: {error}") from None
        return Volume(
            image[None].astype(np.float32),
            head[None].astype(np.int16),
            (1.0, size, size),
            "US",
            item.case_id,
            dict(self.structures),
            metadata={"source": str(item.image)},
        )


class FhPsAop(Layout):
    """FH-PS-AOP: pubic symphysis and fetal head in ultrasound during labour, 256 x 256 pixels.

    The files tell neither pixel size nor patient: a pixel counts as 1 mm, an image as a case.
    """

    name: ClassVar[str] = "fh-ps-aop"
    licence: ClassVar[str] = "CC BY 4.0"
    address: ClassVar[str] = "https://zenodo.org/records/7851339"
    structures: ClassVar[Mapping[int, str]] = {1: "pubic symphysis", 2: "fetal head"}
    expected: ClassVar[tuple[str, ...]] = ("image_mha/00001.mha", "label_mha/00001.mha")

    def find(self, root: Path, part: str) -> list[Item]:
        """Return the pairs of equal names."""
        return complete_pairs(self._pairs(root))

    def unpaired(self, root: Path, part: str) -> list[Path]:
        """Return the missing halves of pairs; see ``Layout.unpaired``."""
        return missing_halves(self._pairs(root))

    def _pairs(self, root: Path) -> list[Item]:
        """Return each image with its label."""
        homes = [root, *sorted(path for path in root.iterdir() if path.is_dir())]
        home = next((place for place in homes if (place / "image_mha").is_dir()), root)
        images, labels = home / "image_mha", home / "label_mha"
        names = sorted({path.name for folder in (images, labels) for path in folder.glob("*.mha")})
        return [Item(Path(name).stem, Path(name).stem, images / name, labels / name) for name in names]

    def load(self, item: Item, structures: Sequence[int | str] = ()) -> Volume:
        """Read a pair; colours become grey."""
        image, _ = read_itk(item.image)
        label, _ = read_itk(item.label)
        if image.shape[0] == len(LUMA) and label.shape[0] == 1:  # colours along the first axis
            image = np.tensordot(LUMA, image, axes=1)[None]
        if label.shape != image.shape:
            raise InputError(f"{item.label}: grid {label.shape} is unlike {image.shape} of {item.image} (z, y, x)")
        return Volume(
            np.ascontiguousarray(image, dtype=np.float32),
            label.astype(np.int16),
            (1.0, 1.0, 1.0),
            "US",
            item.case_id,
            dict(self.structures),
            metadata={"source": str(item.image)},
        )


def fill_ellipse(outline: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the inside of an ellipse's outline, bool (H, W), with the outline itself.

    If the image's edge cuts the ellipse off, its inside is the convex side of the outline.

    Raises:
        ValueError: the outline encloses nothing.
    """
    inside = np.asarray(ndimage.binary_fill_holes(outline), dtype=bool)
    if inside.sum() > LEAST_INSIDE * outline.sum():
        return inside
    sides = regionprops(measure.label(~outline, connectivity=1))
    large = [side for side in sides if side.area > outline.sum()]
    if len(large) < 2:
        raise ValueError("the outline is open and encloses nothing")
    convex = max(large, key=lambda side: side.solidity)
    inside = outline.copy()
    inside[convex.slice] |= convex.image
    return inside


def _pixel_size(image: Path) -> float:
    """Return a pixel's side in mm from the table of sizes beside the images."""
    for table in _tables_of_sizes(image):
        if table.is_file():
            sizes = _sizes(table, table.stat().st_mtime_ns)
            if image.name in sizes:
                return sizes[image.name]
            raise InputError(f"{table}: has no line for {image.name}, so its pixel size is not known")
    raise InputError(f"{image.parent.parent / SIZES}: no such file, so pixel sizes are not known")


def _tables_of_sizes(image: Path) -> list[Path]:
    """Return where the table of sizes may be, in the order of precedence."""
    return [image.parent / SIZES, image.parent.parent / SIZES]


@lru_cache(maxsize=4)
def _sizes(table: Path, changed: int) -> dict[str, float]:
    """Read the table; one that changed is read again."""
    with table.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    try:
        return {row["filename"]: float(row["pixel size(mm)"]) for row in rows}
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f"{table}: expected columns 'filename' and 'pixel size(mm)' with numbers ({error})") from None
