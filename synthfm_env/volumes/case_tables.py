"""Checks the tables that describe the cases of a data set, in the form of a suite's ``[[data]]``."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from synthfm_env.arguments import are_lengths, check_name, is_number, is_whole
from synthfm_env.errors import InputError, unknown_name
from synthfm_env.printable import shown
from synthfm_env.volumes.volume import MODALITIES


@dataclass(frozen=True, slots=True)
class _Rule:
    """A rule for the value of a key: a clause for messages, and the test."""

    expected: str
    fits: Callable[[Any], bool]


def check_tables(tables: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return tables whose keys and values are those of their kind, without the keys whose value is None.

    Args:
        tables: in the form of a suite's ``[[data]]``.

    Raises:
        InputError: an unknown kind or key, a missing key, a value of another type or out of range, a key that an
            environment of whole volumes cannot honour, or two tables of one name.

    Example:
        >>> check_tables([{"kind": "bundled", "name": "tooth", "volume": "tooth", "structures": None}])
        [{'kind': 'bundled', 'name': 'tooth', 'volume': 'tooth'}]
    """
    checked = [_checked(table, f"data[{number}]") for number, table in enumerate(tables)]
    names = [table["name"] for table in checked]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"data: two tables have the name {shown(twice)}; give each its own, it begins the case ids")
    return checked


def _checked(table: Mapping[str, Any], where: str) -> dict[str, Any]:
    kind = table.get("kind")
    check_name(f"kind of {where}", kind if isinstance(kind, str) else shown(kind), _REQUIRED)
    assert isinstance(kind, str)
    rules = {"kind": _TEXT, **_REQUIRED[kind], **_OPTIONAL[kind]}
    given = {key: value for key, value in table.items() if value is not None}
    for key, value in given.items():
        if kind != "synthetic" and key in _REFUSED:
            raise InputError(f"{where}: {key} = {shown(value)} cannot be honoured: {_REFUSED[key]}; leave it out")
        if key not in rules:
            raise InputError(f"{where}: {unknown_name('key', key, rules)}")
        if not rules[key].fits(value):
            raise InputError(f"{where}: {key} is {shown(value)}: expected {rules[key].expected}")
    for key in ("name", *_REQUIRED[kind]):
        if key not in given:
            raise InputError(f"{where} of kind {kind!r} lacks the key {key!r}")
    return given


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_path(value: Any) -> bool:
    return isinstance(value, str | Path) and "\0" not in str(value)


def are_structures(value: Any) -> bool:
    """Tell whether a value is a list of label ids or names; a text is none.

    Example:
        >>> are_structures([1, "liver"]), are_structures("liver"), are_structures([True])
        (True, False, False)
    """
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        return False
    return all(is_whole(one) or _is_text(one) for one in value)


def _is_side(value: Any) -> bool:
    """Tell whether a value is a suite's ``split``: a side, and optionally the share of training and a seed."""
    if not isinstance(value, Mapping) or not value.keys() <= {"side", "train", "seed"}:
        return False
    train, seed = value.get("train", 0.8), value.get("seed", 0)
    return (
        value.get("side", "test") in ("train", "test")
        and is_number(train)
        and 0 < train < 1
        and is_whole(seed)
        and seed >= 0
    )


_TEXT: Final = _Rule("a text", _is_text)
_PATH: Final = _Rule("a path", _is_path)
_COUNT: Final = _Rule("a whole number of 1 or more", lambda value: is_whole(value) and value >= 1)
_SHAPE: Final = _Rule(
    "three integers above 0, (D, H, W)", lambda value: are_lengths(value) and all(n % 1 == 0 for n in value)
)
_RECIPE: Final = _Rule("a recipe's name or table", lambda value: isinstance(value, str | Mapping))
_STRUCTURES: Final = _Rule("a list of label ids or names", are_structures)
_MODALITY: Final = _Rule(f"one of {', '.join(MODALITIES)}", lambda value: value in MODALITIES)
_SPLIT: Final = _Rule(
    'a table of side ("train" or "test"), train (a share between 0 and 1) and seed (0 or more)', _is_side
)
_ENV: Final = _Rule(
    "a synthetic environment of this project",
    lambda value: value in ("SynthFM/Synthetic3D-v0", "SynthFM/Synthetic2D-v0"),
)

_REQUIRED: Final[Mapping[str, Mapping[str, _Rule]]] = {
    "dataset": {"name": _TEXT, "layout": _TEXT},
    "files": {"name": _TEXT, "image": _PATH, "label": _PATH},
    "bundled": {"name": _TEXT, "volume": _TEXT},
    "synthetic": {"name": _TEXT, "shape": _SHAPE, "cases": _COUNT},
}
_OPTIONAL: Final[Mapping[str, Mapping[str, _Rule]]] = {
    "dataset": {
        "path": _PATH,
        "part": _TEXT,
        "structures": _STRUCTURES,
        "cases": _COUNT,
        "images": _COUNT,
        "split": _SPLIT,
    },
    "files": {"structures": _STRUCTURES, "modality": _MODALITY},
    "bundled": {"structures": _STRUCTURES},
    "synthetic": {"recipe": _RECIPE, "env": _ENV},  # every synthetic env draws from the same generator
}

_WHOLE_VOLUMES: Final = "the environment plays whole volumes"
_REFUSED: Final = {
    "slices": _WHOLE_VOLUMES,
    "slice_pixels": _WHOLE_VOLUMES,
    "most_slices": _WHOLE_VOLUMES,
    "clip_slices": _WHOLE_VOLUMES,
    "tolerance_mm": "it belongs to a score; set it in reward = {name = 'nsd_gain', tolerance_mm = ...}",
}
"""Keys of a suite that do not fit here, with the reason."""
