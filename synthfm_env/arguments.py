"""Checks arguments of the Python API. A wrong type is an InputError of one line, as a wrong value is."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from synthfm_env.errors import InputError, unknown_name
from synthfm_env.printable import shown


def check_name(kind: str, name: object, known: Iterable[str]) -> None:
    """Raise InputError unless a value is one of the known names.

    Args:
        kind: of name, for the message.
        name: anything.
        known: the names.

    Example:
        >>> check_name("goal", "structure", ["structure"])
    """
    if not isinstance(name, str) or name not in known:
        raise unknown_name(kind, name, known)


def check_array(value: object, what: str) -> None:
    """Raise InputError unless a value is a numpy array without masked elements.

    Args:
        value: anything.
        what: begins the message.

    Example:
        >>> check_array(np.zeros((2, 2, 2)), "start: the image")
    """
    if not isinstance(value, np.ndarray):
        raise InputError(f"{what}: expected a numpy array, got {type(value).__name__}")
    if isinstance(value, np.ma.MaskedArray):
        raise InputError(f"{what}: a masked array hides elements; give array.filled(...) instead")


def is_whole(value: object) -> bool:
    """Tell whether a value is a whole number; True and False are none.

    Example:
        >>> is_whole(3), is_whole(3.0), is_whole(True)
        (True, False, False)
    """
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Tell whether a value is a real number; True, False and NaN are none.

    Example:
        >>> is_number(0.5), is_number("0.5"), is_number(True)
        (True, False, False)
    """
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        return False
    return value == value


def are_lengths(value: Any) -> bool:
    """Tell whether a value is three lengths above 0, as a spacing is.

    Example:
        >>> are_lengths((2.5, 1, 1)), are_lengths((1, 1)), are_lengths("111")
        (True, False, False)
    """
    if isinstance(value, str | bytes):
        return False
    try:
        lengths = np.asarray(value, dtype=np.float64)
    except Exception:  # a conversion of a foreign type may raise anything
        return False
    return lengths.shape == (3,) and bool((np.isfinite(lengths) & (lengths > 0)).all())


def check_flag(value: object, what: str) -> None:
    """Raise InputError unless a value is True or False. Another truth value, such as the text "no", would be True.

    Args:
        value: anything.
        what: begins the message.

    Example:
        >>> check_flag(True, "reveal_truth")
    """
    if not isinstance(value, bool | np.bool_):
        raise InputError(f"{what} is {shown(value)}: expected True or False")


def check_whole(value: object, what: str, least: int, noun: str = "a whole number") -> None:
    """Raise InputError unless a value is a whole number of at least ``least``.

    Args:
        value: anything.
        what: begins the message.
        least: smallest number that is taken.
        noun: of what it is a number, for the message.

    Example:
        >>> check_whole(3, "k", 1, "a number of candidates")
    """
    if not is_whole(value) or value < least:  # type: ignore[operator]  # is_whole has checked the type
        raise InputError(f"{what} is {shown(value)}: expected {noun}, {least} or more")
