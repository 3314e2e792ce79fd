"""Lists cases that are read one by one, from data sets, files, packages and the generator."""

import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np

from synthfm_env.errors import InputError
from synthfm_env.printable import shown
from synthfm_env.volumes.bundled import bundled_volume
from synthfm_env.volumes.case_tables import check_tables
from synthfm_env.volumes.datasets import Item, get_layout, wanted_ids
from synthfm_env.volumes.datasets.split import train_test_split
from synthfm_env.volumes.nifti import load_volume
from synthfm_env.volumes.volume import Volume

_Thing = TypeVar("_Thing")


@dataclass(frozen=True, slots=True, eq=False)
class CaseSource:
    """One image with its truth that has not been read yet.

    Attributes:
        case_id: the patient; a split contains all images of a patient or none.
        image_id: unique name of the image.
        structures: ids or names of the structures to segment; empty for all.
        identity: values that JSON can hold; they change if the volume that ``load`` returns does.
        load: reads the volume; raises InputError for a file that is missing or broken.
        patient: keys of the patient; sources that share one show the same patient, under whichever case id.
        side: "train" or "test" if a table's own split puts the patient there, else None.
    """

    case_id: str
    image_id: str
    structures: tuple[int | str, ...]
    identity: dict[str, Any]
    load: Callable[[], Volume]
    patient: tuple[str, ...]
    side: str | None = None


def case_sources(data: str | Path | Sequence[Mapping[str, Any]], layout: str, part: str | None) -> list[CaseSource]:
    """Return all cases of a data set, in an order that does not depend on the machine.

    Args:
        data: a folder in a layout; a TOML file with ``[[data]]`` tables as suites have them, whose paths are relative
            to the file; or such tables.
        layout: of the folder, a name from ``synthfm_env.volumes.datasets.list_layouts``.
        part: of the layout.

    Raises:
        InputError: no such folder, file, layout or part; no case in it; a table of another form, see ``check_tables``.

    Example:
        >>> tables = [{"kind": "synthetic", "name": "mr", "shape": [8, 32, 32], "recipe": "mr", "cases": 2}]
        >>> [source.image_id for source in case_sources(tables, "folder", None)]
        ['mr/0', 'mr/1']
    """
    if isinstance(data, str | Path) and not str(data).endswith(".toml"):
        return _dataset({"name": "", "layout": layout, "path": str(data), "part": part}, Path())
    if not isinstance(data, str | Path) and not (
        isinstance(data, Sequence) and all(isinstance(table, Mapping) for table in data)
    ):
        raise InputError(
            f"data is {shown(data)}: expected a folder, a TOML file, or a list of tables as a suite's [[data]]"
        )
    root = Path(data).parent if isinstance(data, str | Path) else Path()
    tables = _tables(Path(data)) if isinstance(data, str | Path) else list(data)
    sources = [source for table in check_tables(tables) for source in _KINDS[table["kind"]](table, root)]
    if not sources:
        raise InputError("data is empty: give a folder, or at least one table as in a suite's [[data]]")
    return sources


def _tables(path: Path) -> list[Mapping[str, Any]]:
    """Return the ``[[data]]`` tables of a TOML file."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8")).get("data", [])
    except OSError as error:
        raise InputError(f"data {path}: cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"data {path}: not valid TOML: {error}") from None
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise InputError(f"data {path}: 'data' is no list of tables; write [[data]] before each")
    return tables


def _dataset(table: Mapping[str, Any], root: Path) -> list[CaseSource]:
    """Return the images of a data set in a layout, chosen as a suite does: a side, then cases, then images of each."""
    layout, folder = get_layout(table["layout"]), root / table.get("path", ".")
    structures = tuple(table.get("structures", ()))
    if layout.structures:
        wanted_ids(structures, layout.structures)  # an unknown name is refused now, not at the first reset
    items, side = _of_side(layout.items(folder, table.get("part")), table.get("split"))
    images_of: dict[str, list[Item]] = {}
    for item in items:
        images_of.setdefault(item.case_id, []).append(item)
    cases = _evenly(list(images_of), table.get("cases"))
    chosen = {item for case in cases for item in _evenly(images_of[case], table.get("images"))}
    prefix = f"{table['name']}/" if table["name"] else ""
    return [
        CaseSource(
            case_id=f"{prefix}{item.case_id}",
            image_id=f"{prefix}{item.image_id}",
            structures=structures,
            identity={
                "layout": layout.name,
                "part": item.part,
                "structures": list(structures),
                "image": _stamp(item.image),
                "label": _stamp(item.label),
                "descriptions": [_stamp(path) for path in layout.described_by(item)],
            },
            load=partial(layout.load, item, structures),
            patient=(f"{folder.resolve()}: {item.case_id}", str(item.image.resolve())),
            side=side,
        )
        for item in items
        if item in chosen
    ]


def _of_side(items: list[Item], split: Mapping[str, Any] | None) -> tuple[list[Item], str | None]:
    """Return the images of one side of a table's split, and the side; all images without a split."""
    if split is None:
        return items, None
    side = split.get("side", "test")
    training, test = train_test_split(items, split.get("train", 0.8), split.get("seed", 0))
    return (training if side == "train" else test), side


def _files(table: Mapping[str, Any], root: Path) -> list[CaseSource]:
    """Return the one case of an image file and a label file."""
    image, label, modality = root / table["image"], root / table["label"], table.get("modality")
    return [
        CaseSource(
            case_id=table["name"],
            image_id=table["name"],
            structures=tuple(table.get("structures", ())),
            identity={"image": _stamp(image), "label": _stamp(label), "modality": modality},
            load=partial(load_volume, image, label, modality=modality),
            patient=(str(image.resolve()),),
        )
    ]


def _bundled(table: Mapping[str, Any], root: Path) -> list[CaseSource]:
    name, volume = table["name"], table["volume"]
    return [
        CaseSource(
            case_id=name,
            image_id=name,
            structures=tuple(table.get("structures", ())),
            identity={"bundled": volume},
            load=partial(bundled_volume, volume),
            patient=(f"bundled: {volume}",),
        )
    ]


def _synthetic(table: Mapping[str, Any], root: Path) -> list[CaseSource]:
    """Return the cases of a generator, by their seeds."""
    # Imported here, because the generator needs torch and readers of files do not.
    from synthfm_env.synthesis import SynthFM3D
    from synthfm_env.synthesis.generator import GENERATOR_VERSION

    generator = SynthFM3D(shape=table["shape"], recipe=table.get("recipe", "any"))
    settings = {
        "recipe": generator.recipe.model_dump(mode="json"),
        "shape": list(generator.shape),
        "generator": GENERATOR_VERSION,
    }
    return [
        CaseSource(
            case_id=f"{table['name']}/{seed}",
            image_id=f"{table['name']}/{seed}",
            structures=(),
            identity={**settings, "seed": seed},
            load=partial(generator.sample, seed),
            patient=(f"synthetic: {json.dumps({**settings, 'seed': seed}, sort_keys=True)}",),
        )
        for seed in range(table["cases"])
    ]


_KINDS: Final[dict[str, Callable[[Mapping[str, Any], Path], list[CaseSource]]]] = {
    "dataset": _dataset,
    "files": _files,
    "bundled": _bundled,
    "synthetic": _synthetic,
}


def _evenly(things: Sequence[_Thing], count: int | None) -> list[_Thing]:
    """Return ``count`` of the things, evenly spread from the first to the last; None for all."""
    if count is None or count >= len(things):
        return list(things)
    return [things[i] for i in np.linspace(0, len(things) - 1, count).round().astype(int)]


def _stamp(path: Path) -> list[Any]:
    """Return path, size and time of change of a file, or of the files of a folder, to detect changes."""
    if path.is_dir():
        return [str(path.absolute()), [_stamp(file) for file in sorted(path.iterdir()) if file.is_file()]]
    try:
        state = path.stat()
    except OSError:
        return [str(path.absolute()), None]
    return [str(path.absolute()), state.st_size, state.st_mtime_ns]
