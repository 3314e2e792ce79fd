"""Looks at a data set on disk: whether it lies as its layout says, and which images can be read."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from synthfm_env.errors import InputError
from synthfm_env.volumes.datasets import Item, Layout, get_layout


@dataclass(slots=True)
class Checked:
    """What one part of a data set holds.

    Attributes:
        part: of the layout, empty where it has none.
        patients: how many.
        images: how many could be read.
        structures: in how many images each one is.
        broken: what was wrong with the others, a line each.
    """

    part: str
    patients: int = 0
    images: int = 0
    structures: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)


def check(root: Path, layout_name: str, console: Console) -> list[Checked]:
    """Read every image of a data set with its truth.

    Args:
        root: its folder.
        layout_name: how it lies.
        console: where progress is shown.

    Raises:
        InputError: an unknown layout, or a folder that looks like none of its parts.
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
    return [_check_part(layout, part, items, console) for part, items in parts.items()]


def say(checked: list[Checked], shown: int = 10) -> Iterator[str]:
    """Yield the lines that tell what was found."""
    for one in checked:
        name = f"{one.part}: " if one.part else ""
        yield f"{name}{_count(one.images, 'image')} of {_count(one.patients, 'patient')} can be played"
        for structure, images in sorted(one.structures.items(), key=lambda pair: (-pair[1], pair[0])):
            yield f"  {structure}: in {images}"
        if one.broken:
            yield f"{name}{_count(len(one.broken), 'image')} cannot be read, and would be left out:"
            yield from (f"  {reason}" for reason in one.broken[:shown])
            if len(one.broken) > shown:
                yield f"  ... and {len(one.broken) - shown} more"


def _check_part(layout: Layout, part: str, items: list[Item], console: Console) -> Checked:
    found = Checked(part)
    patients: dict[str, int] = defaultdict(int)
    for item in track(items, f"{layout.name} {part}".strip(), console=console, disable=not console.is_terminal):
        try:
            volume = layout.load(item)
        except InputError as error:
            if isinstance(error.__cause__, ImportError):
                raise
            found.broken.append(str(error))
            continue
        assert volume.label is not None, "layouts read the truth too"
        found.images += 1
        patients[item.case_id] += 1
        found.structures.update(volume.structures.get(int(i), str(i)) for i in np.unique(volume.label) if i)
    found.patients = len(patients)
    return found


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
