"""Defines the messages of the bridge, version 1: a line of JSON for each call, arrays in shared files.

==========  =============================================================  =====================================
call        fields                                                         answer
==========  =============================================================  =====================================
``hello``   ``version``                                                    ``version``, ``name``, ``capabilities``
``start``   ``session``, ``image``, ``spacing``, ``mask``                  ``seconds``
``prompt``  ``session``, ``prompts``: **all** in force, oldest first       ``shape`` of the mask, ``seconds``
``close``   ``session``                                                    nothing
==========  =============================================================  =====================================

Every call has an ``id``, which its answer repeats.

- An array is ``{"path", "dtype", "shape"}``: a file of its voxels alone, in C order, axes (z, y, x).
- ``start`` names two: ``image``, which the model reads, and ``mask`` (uint8), into which it writes each answer as
  0 and 1.
- A prompt is ``{"clicks": [[z, y, x, sign], ...], "box": [start, stop] or null, "mask": array or null}``, sign 1 for
  positive and 0 for negative. Every call carries all prompts, so a model needs no undo and no state, and a process
  that was started again knows everything.
- ``seconds`` is optional: ``[encode, predict]``.
- An answer ``{"error": "input" or "model", "message": ...}`` refuses the prompt, or reports that the model
  failed. ``"error": null`` is no error. Of a message 500 characters are shown.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthfm_env.errors import SegmenterError
from synthfm_env.printable import shown
from synthfm_env.prompts import Box, Click, Prompt
from synthfm_env.segmenters.base import Capabilities

VERSION = 1
LONGEST_LINE = 1 << 20  # bytes
_SHOWN = 80  # bytes of a wrong line, in a message


def encode(message: Mapping[str, Any]) -> bytes:
    """Return a message as one line."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes, what: str) -> dict[str, Any]:
    """Read one line.

    Args:
        line: the bytes, with or without a line end.
        what: begins the message of an error: the sender.

    Raises:
        SegmenterError: it is no JSON object, or longer than ``LONGEST_LINE``.
    """
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict) or len(line) > LONGEST_LINE:
        shown = line[:_SHOWN].decode("utf-8", "replace").strip()
        raise SegmenterError(
            f"{what} wrote {shown!r} to its standard output: expected one line of JSON a call; print to stderr instead"
        )
    return message


def write_array(path: Path, array: NDArray[Any]) -> dict[str, Any]:
    """Write an array's voxels to a file, and return its description for a message."""
    np.ascontiguousarray(array).tofile(path)
    return describe_array(path, array.dtype, array.shape)


def describe_array(path: Path, dtype: Any, shape: tuple[int, ...]) -> dict[str, Any]:
    """Return the description of an array in a file: path, dtype and shape."""
    return {"path": str(path), "dtype": np.dtype(dtype).name, "shape": list(shape)}


def map_array(array: Mapping[str, Any], mode: str = "r") -> NDArray[Any]:
    """Map the file of an array into memory; ``mode`` as for ``numpy.memmap``."""
    return np.memmap(array["path"], dtype=array["dtype"], mode=mode, shape=tuple(array["shape"]))  # type: ignore[call-overload]


def prompt_message(prompt: Prompt, mask: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a prompt as a message's field; ``mask`` describes the file of its mask."""
    return {
        "clicks": [[*click.zyx, int(click.positive)] for click in prompt.clicks],
        "box": None if prompt.box is None else [list(prompt.box.start), list(prompt.box.stop)],
        "mask": mask,
    }


def read_prompt(message: Mapping[str, Any]) -> Prompt:
    """Return the prompt of a field that ``prompt_message`` made."""
    clicks = tuple(Click((z, y, x), bool(sign)) for z, y, x, sign in message["clicks"])
    box = message["box"] and Box(tuple(message["box"][0]), tuple(message["box"][1]))
    mask = None if message["mask"] is None else np.array(map_array(message["mask"])).view(bool)
    return Prompt(clicks, box or None, mask)


def read_capabilities(fields: Any, what: str) -> Capabilities:
    """Return the capabilities that a model declares; those that it leaves out have their defaults.

    Raises:
        SegmenterError: an unknown capability, or a value that is not true or false.
    """
    known = Capabilities.__slots__
    good = isinstance(fields, dict) and all(k in known and isinstance(v, bool) for k, v in fields.items())
    if not good:
        raise SegmenterError(
            f"{what} declared the capabilities {shown(fields)}: expected {', '.join(known)}, true or false"
        )
    return Capabilities(**fields)
