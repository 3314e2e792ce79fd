"""Checks a data set on disk: reads all its images and reports those that fail."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from synthfm_env.errors import InputError
from synthfm_env.plural import plural
from synthfm_env.volumes.datasets import Item, Layout, get_layout


@dataclass(slots=True)
class Checked:
    """Result of checking one part of a data set.

    Attributes:
        part: of the layout, empty if it has none.
        patients: number of patients whose images could be read.
        images: number of images that could be read.
        structures: number of images that contain each structure.
        broken: a message for each image that could not be read.
        missing: files whose absence leaves an image out: the image or the truth of a pair.
        unread: for each structure with a file of its own, a message for each image in which that file is missing or
            broken.
    """

    part: str
    patients: int = 0
    images: int = 0
    structures: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    missing: list[Path] = field(default_factory=list)
    unread: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


def check(root: Path, layout_name: str, console: Console) -> list[Checked]:
    """Read every image of a data set with its truth.

    Args:
        root: its folder.
        layout_name: its layout.
        console: shows the progress.

    Raises:
        InputError: the layout is unknown, or the folder has files of none of its parts.
    """
    layout = get_layout(layout_name)
    parts: dict[str, list[Item]] = {}
    reasons = []
    for part in layout.parts or ("",):
        try:
            parts[part] = layout.items(root, part or None)
        except InputError as error:
            reasons.append(error)
    if not parts:
        raise reasons[0]
    return [
        _check_part(layout, items, console, Checked(part, missing=layout.unpaired(root, part)))
        for part, items in parts.items()
    ]


def report_lines(checked: list[Checked], shown: int = 10) -> Iterator[str]:
    """Yield the lines of the report."""
    for result in checked:
        name = f"{result.part}: " if result.part else ""
        yield f"{name}{plural(result.images, 'image')} of {plural(result.patients, 'patient')} can be played"
        for structure, images in sorted(result.structures.items(), key=lambda pair: (-pair[1], pair[0])):
            yield f"  {structure}: in {images}"
        if result.broken:
            yield f"{name}{plural(len(result.broken), 'image')} cannot be read, and would be left out:"
            yield from _first(result.broken, shown)
        if result.missing:
            yield f"{name}{plural(len(result.missing), 'image')} would be left out, a file is missing:"
            yield from _first([str(path) for path in result.missing], shown)
        for structure, reasons in sorted(result.unread.items()):
            if result.structures[structure]:  # a structure that no image has is one that the host does not ship
                yield f"{name}{structure} of {plural(len(reasons), 'image')} cannot be read, and would be left out:"
                yield from _first(reasons, shown)


def _first(reasons: Sequence[str], shown: int) -> Iterator[str]:
    """Yield the first reasons, and the number of the others."""
    yield from (f"  {reason}" for reason in reasons[:shown])
    if len(reasons) > shown:
        yield f"  ... and {len(reasons) - shown} more"


def _check_part(layout: Layout, items: list[Item], console: Console, result: Checked) -> Checked:
    """Read the images of a part and complete its result."""
    patients: dict[str, int] = defaultdict(int)
    for item in track(items, f"{layout.name} {result.part}".strip(), console=console, disable=not console.is_terminal):
        try:
            volume = layout.load(item)
        except InputError as error:
            if isinstance(error.__cause__, ImportError):
                raise
            result.broken.append(str(error))
            continue
        assert volume.label is not None, "layouts read the truth too"
        result.images += 1
        patients[item.case_id] += 1
        for structure, reason in volume.metadata.get("left_out", {}).items():
            result.unread[structure].append(reason)
        result.structures.update(volume.structures.get(int(i), str(i)) for i in np.unique(volume.label) if i)
    result.patients = len(patients)
    return result
