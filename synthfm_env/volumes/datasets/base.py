"""Defines the base class of data-set readers, which find the files of a data set and read them as volumes."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from synthfm_env.errors import InputError, unknown_name
from synthfm_env.printable import printable
from synthfm_env.volumes.structure_names import canonical_name
from synthfm_env.volumes.volume import Volume

_SHOWN = 5  # names of a folder in a message


@dataclass(frozen=True, slots=True)
class Item:
    """The files of one image of a data set.

    Attributes:
        case_id: the patient, who may have several images; the unit of statistics.
        image_id: name of the image in its data set, for example ``patient0001_2CH_ED``.
        image: file of the image, or folder of its slices.
        label: file or folder of the truth.
        part: of the layout, see ``Layout.parts``.
    """

    case_id: str
    image_id: str
    image: Path
    label: Path
    part: str = ""


class Layout(ABC):
    """Reads a data set as its host ships it. The docstring's first line describes its content.

    Attributes:
        name: in suites and for ``--layout``.
        licence: of the data set, in a few words.
        address: of its download page.
        parts: parts of the data set to choose from, with a description each; empty if it has only one.
        structures: name of each label id that ``load`` returns; empty if the data set's files name them.
        expected: typical files below the data set's folder; see ``expected_files``.
    """

    name: ClassVar[str]
    licence: ClassVar[str]
    address: ClassVar[str]
    parts: ClassVar[Mapping[str, str]] = {}
    structures: ClassVar[Mapping[int, str]] = {}
    expected: ClassVar[tuple[str, ...]]

    @abstractmethod
    def find(self, root: Path, part: str) -> list[Item]:
        """Return the images below a folder that have a truth, in an order that is the same on all machines.

        Args:
            root: the folder, which exists.
            part: one of ``parts``; empty if there are none.

        Raises:
            InputError: an index file of the data set is broken.
        """

    @abstractmethod
    def load(self, item: Item, structures: Sequence[int | str] = ()) -> Volume:
        """Read one image with its truth.

        Args:
            item: from ``find``.
            structures: ids or names of the structures that are needed; empty for all.

        Raises:
            InputError: a file is missing, broken, or not of the layout.
        """

    def described_by(self, item: Item) -> Sequence[Path]:
        """Return the other files that ``load`` reads: names, modality, sizes. They may be missing.

        Args:
            item: from ``find``.
        """
        return []

    def unpaired(self, root: Path, part: str) -> list[Path]:
        """Return missing files: the image or the truth whose counterpart exists. ``find`` leaves such images out.

        A layout in which images without a truth are usual returns none of them.

        Args:
            root: the folder, which exists.
            part: one of ``parts``; empty if there are none.
        """
        return []

    def items(self, root: Path, part: str | None = None) -> list[Item]:
        """Return the images below a folder.

        Raises:
            InputError: the folder or the part does not exist, or no file fits the layout; the message names the
                expected files.
        """
        if self.parts and part not in self.parts:
            raise unknown_name(f"part of layout {self.name!r}", part or "", self.parts)
        if not self.parts and part:
            raise InputError(f"layout {self.name!r} has no parts; leave out part = {part!r}")
        if not os.path.isdir(root):
            above = root.parent
            neighbours = f"; found in {above}: {_contents(above)}" if os.path.isdir(above) else ""
            raise InputError(f"{root}: there is no such folder; {self.expectation(root, part)}{neighbours}")
        items = self.find(root, part or "")
        if not items:
            expected = self.expectation(root, part)
            raise InputError(f"{root}: holds no image with a label; {expected}; found there: {_contents(root)}")
        return items

    def expected_files(self, part: str) -> Sequence[str]:
        """Return typical files of a part below the data set's folder, for messages; ``expected`` if it has no parts."""
        return self.expected

    def expectation(self, root: Path, part: str | None = None) -> str:
        """Return a clause with the expected files and the address to get them from."""
        which = f", part {part}" if part else ""
        first, *others = self.expected_files(part or "")
        files = ", ".join([str(root / first), *others])
        return f"layout {self.name!r}{which} expects {files} (from {self.address})"


def _contents(root: Path) -> str:
    """Return the first names in a folder."""
    names = sorted(path.name + ("/" if path.is_dir() else "") for path in root.iterdir())
    return printable(", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")) or "nothing"


def complete_pairs(items: Iterable[Item]) -> list[Item]:
    """Return the items whose image and truth both exist."""
    return [item for item in items if item.image.exists() and item.label.exists()]


def missing_halves(items: Iterable[Item]) -> list[Path]:
    """Return the missing file of each item of which only the image or only the truth exists."""
    halves = [item for item in items if item.image.exists() != item.label.exists()]
    return [item.label if item.image.exists() else item.image for item in halves]


def wanted_ids(structures: Sequence[int | str], names: Mapping[int, str]) -> list[int]:
    """Return label ids of structures given as ids or names; see ``canonical_name``.

    Args:
        structures: ids or names; empty for all of ``names``.
        names: name of each id.

    Raises:
        InputError: a structure is not among the names.
    """
    if not structures:
        return list(names)
    ids = {canonical_name(name): key for key, name in names.items()} | {name: key for key, name in names.items()}
    wanted = []
    for structure in structures:
        text = str(structure) if str(structure) in ids else canonical_name(str(structure))
        if text not in ids and not (text.isdecimal() and (not names or int(text) in names)):
            raise unknown_name("structure", str(structure), [*names.values(), *map(str, names)])
        wanted.append(ids[text] if text in ids else int(text))
    return list(dict.fromkeys(wanted))
