"""Shares one segmenter between all environments that describe the same one."""

import inspect
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from synthfm_env.errors import InputError, unknown_name
from synthfm_env.printable import shown
from synthfm_env.segmenters.base import Segmenter
from synthfm_env.segmenters.registry import make_segmenter


def shared_segmenter(description: str | Mapping[str, Any]) -> Segmenter:
    """Return the segmenter of a description, built once in a process; the four used last are kept.

    Args:
        description: a name or path, or the table of a suite: ``use``, a name or path, and ``params``, further arguments
            of ``make_segmenter`` that JSON can hold.

    Raises:
        InputError: a table of another form, or as ``make_segmenter``.

    Example:
        >>> shared_segmenter("geodesic") is shared_segmenter({"use": "geodesic"})
        True
    """
    if isinstance(description, str):
        return _built(description, "{}")
    if not isinstance(description.get("use"), str) or not isinstance(description.get("params", {}), Mapping):
        raise InputError(f"segmenter is {shown(description)}: expected a table of use, a name, and params, a table")
    for key in description.keys() - {"use", "params"}:
        raise unknown_name("key of segmenter", key, ("use", "params"))
    known = list(inspect.signature(make_segmenter).parameters)[1:]
    params = dict(description.get("params", {}))
    for key in params.keys() - set(known):
        raise unknown_name(f"parameter of segmenter {shown(description['use'])}", key, known)
    try:
        text = json.dumps(params, sort_keys=True)
    except TypeError as error:
        raise InputError(f"params of segmenter {shown(description['use'])}: {error}; give numbers and texts") from None
    return _built(description["use"], text)


@lru_cache(maxsize=4)
def _built(name: str, params: str) -> Segmenter:
    return make_segmenter(name, **json.loads(params))
