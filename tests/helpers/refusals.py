"""Calls code that must work or raise InputError with one line."""

from collections.abc import Callable
from typing import Any

from synthfm_env.errors import InputError


def result_or_refusal(call: Callable[..., Any], *arguments: Any) -> tuple[Any, str]:
    """Return a call's result and no text, or None and the text of its InputError, which must be one line."""
    try:
        return call(*arguments), ""
    except InputError as error:
        text = str(error)
    assert text
    assert "\n" not in text
    return None, text
