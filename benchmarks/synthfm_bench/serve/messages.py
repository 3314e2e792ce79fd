"""Reads and checks values of requests' JSON; every function returns a value of its type or raises InputError."""

import json
import math
from typing import Any

import numpy as np

from synthfm_env.errors import InputError

_FARTHEST = 1 << 31  # no voxel has a larger index


def read_object(text: bytes | str, what: str) -> dict[str, Any]:
    """Return a JSON object.

    Args:
        text: JSON; an empty text is an empty object.
        what: begins the message.

    Raises:
        InputError: not JSON, or another value than an object.

    Example:
        >>> read_object('{"shape": [1, 2, 3]}', "body")
        {'shape': [1, 2, 3]}
    """
    try:
        value = json.loads(text) if text else {}
    except (ValueError, RecursionError) as error:
        raise InputError(f"{what} is not valid JSON ({type(error).__name__}); send a JSON object") from None
    if not isinstance(value, dict):
        raise InputError(f"{what} holds {type(value).__name__}; send a JSON object")
    return value


def flag(message: dict[str, Any], key: str, default: bool | None = None) -> bool:
    """Return a boolean; without a default the key is required."""
    value = message.get(key, default)
    if not isinstance(value, bool):
        raise InputError(f"{key} is {shown(value)}; expected true or false")
    return value


def voxel(message: dict[str, Any], key: str) -> tuple[int, int, int]:
    """Return three whole numbers; viewers send fractions of a voxel, which are rounded."""
    a, b, c = _numbers(message.get(key), 3, key)
    return round(a), round(b), round(c)


def intervals(message: dict[str, Any], key: str) -> tuple[tuple[int, int], ...]:
    """Return three half-open intervals, each at least one voxel long."""
    value = message.get(key)
    if not isinstance(value, list) or len(value) != 3:
        raise InputError(f"{key} is {shown(value)}; expected [[start, stop], [start, stop], [start, stop]] in voxels")
    read = [_numbers(pair, 2, key) for pair in value]
    spans = tuple((round(start), round(stop)) for start, stop in read)
    if any(start >= stop for start, stop in spans):
        raise InputError(f"{key} is {shown(value)}; every stop must exceed its start")
    return spans


def shape(message: dict[str, Any]) -> tuple[int, int, int]:
    """Return three positive lengths."""
    a, b, c = _numbers(message.get("shape"), 3, "shape")
    if min(a, b, c) < 1 or not all(n.is_integer() for n in (a, b, c)):
        raise InputError(f"shape is {shown(message['shape'])}; expected three positive voxel counts")
    return int(a), int(b), int(c)


def mask_dtype(message: dict[str, Any]) -> np.dtype:
    """Return the dtype of a target buffer."""
    value = message.get("dtype")
    known = ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
    if value not in known:
        raise InputError(f"dtype is {shown(value)}; a target buffer is bool or an integer: one of {', '.join(known)}")
    return np.dtype(value)


def spacing(properties: dict[str, Any]) -> tuple[float, float, float]:
    """Return the voxel size in mm along the array's axes, 1 mm if there is none.

    napari gives a 2D image two lengths; the slice then is 1 mm thick.
    """
    value = properties.get("spacing")
    if value is None:
        return 1.0, 1.0, 1.0
    if isinstance(value, list) and len(value) == 2:
        value = [1.0, *value]
    a, b, c = _numbers(value, 3, "spacing")
    if min(a, b, c) <= 0:
        raise InputError(f"spacing is {shown(value)}; expected three positive lengths in mm")
    return a, b, c


def windowed(properties: dict[str, Any]) -> bool:
    """Tell whether the intensities are in 8 bits as the segmenter shall get them, False if nothing is stated."""
    value = properties.get("windowed", False)
    if not isinstance(value, bool):
        raise InputError(f"windowed is {shown(value)}; expected true or false")
    return value


def affine(properties: dict[str, Any]) -> np.ndarray | None:
    """Return the 4x4 affine from the array's index to RAS+ mm, None if there is none."""
    value = properties.get("affine")
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 4:
        raise InputError(f"affine is {shown(value)}; expected four rows of four numbers")
    return np.array([_numbers(row, 4, "affine") for row in value])


def shown(value: Any) -> str:
    """Return a value for a message, cut short."""
    text = ascii(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _numbers(value: Any, count: int, key: str) -> list[float]:
    real = isinstance(value, list) and all(isinstance(n, int | float) and not isinstance(n, bool) for n in value)
    if not real or len(value) != count or not all(abs(n) < _FARTHEST and math.isfinite(n) for n in value):
        raise InputError(f"{key} is {shown(value)}; expected {count} numbers")
    return [float(n) for n in value]
