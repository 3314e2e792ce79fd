"""What a data-set layout is: where the files of a data set lie, and how they become volumes."""

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
        case_id: the patient, which is the unit of statistics; a patient may have several images.
        image_id: names the image in its data set, for example ``patient0001_2CH_ED``.
        image: its file, or the folder of its slices.
        label: the file or the folder of its truth.
        part: of the layout.
    """

    case_id: str
    image_id: str
    image: Path
    label: Path
    part: str = ""


class Layout(ABC):
    """How a data set lies on disk as its host ships it. The first line of the docstring says what it holds.

    Attributes:
        name: for suites and ``--layout``.
        licence: its host's, in a few words.
        address: where its host offers it.
        parts: what it consists of, with a line on each; empty where there is nothing to choose.
        structures: name of each label id that ``load`` gives; empty where the data set says it itself.
        expected: files below the folder that is named, as a user would look for them.
    """

    name: ClassVar[str]
    licence: ClassVar[str]
    address: ClassVar[str]
    parts: ClassVar[Mapping[str, str]] = {}
    structures: ClassVar[Mapping[int, str]] = {}
    expected: ClassVar[tuple[str, ...]]

    @abstractmethod
    def find(self, root: Path, part: str) -> list[Item]:
        """Return the images below a folder that have a truth, in an order that does not depend on the machine.

        Args:
            root: the folder, which exists.
            part: one of ``parts``, empty where there are none.

        Raises:
            InputError: a file that tells where the others lie is broken.
        """

    @abstractmethod
    def load(self, item: Item, structures: Sequence[int | str] = ()) -> Volume:
        """Read one image with its truth.

        Args:
            item: one that ``find`` returned.
            structures: the only ones that are needed, ids or names; empty for every one.

        Raises:
            InputError: a file that is missing, broken, or unlike what the layout says.
        """

    def unpaired(self, root: Path, part: str) -> list[Path]:
        """Return the files that are missing beside others of their image, so that it is not among ``find``'s.

        A layout in which images without a truth are usual returns none of those.

        Args:
            root: as ``find``.
            part: the same.
        """
        return []

    def items(self, root: Path, part: str | None = None) -> list[Item]:
        """Return the images below a folder.

        Raises:
            InputError: no such folder or part, or nothing there that looks like the layout; says what was expected.
        """
        if self.parts and part not in self.parts:
            raise unknown_name(f"part of layout {self.name!r}", part or "", self.parts)
        if not self.parts and part:
            raise InputError(f"layout {self.name!r} has no parts; leave out part = {part!r}")
        if not root.is_dir():
            raise InputError(f"{root}: there is no such folder; {self.says_what_it_expects(root, part)}")
        found = self.find(root, part or "")
        if not found:
            expected = self.says_what_it_expects(root, part)
            raise InputError(f"{root}: holds no image with a label; {expected}; found there: {_contents(root)}")
        return found

    def says_what_it_expects(self, root: Path, part: str | None = None) -> str:
        """Return in one line which files are expected, and where they come from."""
        which = f", part {part}" if part else ""
        files = ", ".join(str(root / file) for file in self.expected)
        return f"layout {self.name!r}{which} expects {files} (from {self.address})"


def _contents(root: Path) -> str:
    """Return the first names in a folder."""
    names = sorted(path.name + ("/" if path.is_dir() else "") for path in root.iterdir())
    return printable(", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")) or "nothing"


def whole(items: Iterable[Item]) -> list[Item]:
    """Return the items whose image and truth are both on disk."""
    return [item for item in items if item.image.exists() and item.label.exists()]


def missing_of(items: Iterable[Item]) -> list[Path]:
    """Return what is missing of items of which the image or the truth is on disk."""
    halves = [item for item in items if item.image.exists() != item.label.exists()]
    return [item.label if item.image.exists() else item.image for item in halves]


def wanted_ids(structures: Sequence[int | str], names: Mapping[int, str]) -> list[int]:
    """Return the label ids of ids or names, every known one if nothing is asked for; see ``canonical_name``.

    Raises:
        InputError: a name that is not known.
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
