"""Checks the parameters of a packaged clicker before it is built."""

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

from synthfm_agents.base import Clicker
from synthfm_env.errors import InputError
from synthfm_env.printable import printable, shown

_NUMBERS: dict[type, str] = {int: "a whole number", float: "a finite number"}


def check_parameters(kind: Callable[..., Clicker], name: str, params: Mapping[str, Any]) -> None:
    """Raise InputError unless a packaged clicker takes these parameters, with a number where it expects one.

    Args:
        kind: the clicker's class, or a function that makes it.
        name: of the clicker, for messages.
        params: the values by name.

    Raises:
        InputError: the message names the parameter, its value and what the clicker takes.
    """
    known = {
        key: parameter
        for key, parameter in inspect.signature(kind, eval_str=True).parameters.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }
    takes = ", ".join(f"{key}={parameter.default!r}" for key, parameter in known.items()) or "no parameters"
    for key, value in params.items():
        if key not in known:
            raise InputError(f"clicker {name!r} has no parameter {printable(key, 80)!r}; it takes {takes}")
        expected = _NUMBERS.get(known[key].annotation)
        if expected is not None and not _is_number(value, known[key].annotation):
            text = shown(value)
            raise InputError(f"clicker {name!r} got {key}={text}: expected {expected}; it takes {takes}")


def _is_number(value: Any, kind: type) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value) and (kind is float or isinstance(value, int))
    except OverflowError:  # a whole number beyond every float
        return False
