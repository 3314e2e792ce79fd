"""Hashes a clicker by its clicks on fixed error maps, so that equal hashes mean equal behaviour."""

import hashlib
import inspect
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthfm_agents.base import Clicker
from synthfm_env.envs.actions import STOP

_SEED = 7
_CLICKS = 8
# Shapes (D, H, W) of the two grids, with their spacing in mm.
_SPACINGS = {(7, 22, 18): (2.5, 0.8, 0.8), (1, 26, 24): (1.0, 1.0, 1.0)}


def behaviour_hash(clicker: Clicker, about: Mapping[str, Any]) -> str:
    """Return the SHA-256, in hex, of a description and of the clicks on fixed error maps.

    The clicker plays on a small volume and a small image against a fixed series of masks, which does not depend on its
    clicks: empty, shifted, grown with a hole, far too large, exact, and empty again. Two clickers with equal hashes
    place the same clicks on these maps. The maps are computed from integers alone and the seed is fixed. An exception
    enters the hash by its type.

    Args:
        clicker: not in an episode; it is reset.
        about: other contents of the hash, for example name and parameters.
    """
    content = {**about, "clicks": [list(_clicks(clicker, shape)) for shape in _SPACINGS]}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def source_hash(kind: type, about: Mapping[str, Any]) -> str:
    """Return the SHA-256, in hex, of a description and of the source files of a class and of its bases.

    Hashes a user's own code without calling it, because it may hang, fail or take long. The files of all bases are
    hashed, those of installed packages too, so the hash changes with an update of a base class.
    """
    digest = hashlib.sha256(json.dumps(dict(about), sort_keys=True).encode())
    for base in kind.__mro__:
        try:
            file = inspect.getsourcefile(base)
        except TypeError:  # a built-in class
            continue
        if file is not None and Path(file).is_file():
            digest.update(Path(file).read_bytes())
    return digest.hexdigest()


def _clicks(clicker: Clicker, shape: tuple[int, int, int]) -> Iterator[list[int] | str]:
    """Yield the actions on one grid, ``[z, y, x, kind]`` each, up to a stop or an error."""
    # Image and masks, the same for every clicker
    truth, masks = _error_maps(shape)
    places = np.indices(shape)
    image = np.where(truth, 150, 60) + (7 * places[0] + 13 * places[1] + 29 * places[2]) % 31
    rows = np.full((_CLICKS, 4), -1, dtype=np.int32)
    spacing = np.array(_SPACINGS[shape], dtype=np.float32)
    # Let the clicker act on one mask after another, whatever it clicked before.
    try:
        clicker.reset(_SEED)
        for step in range(_CLICKS):
            observation = {
                "image": image.astype(np.uint8),
                "mask": masks[step % len(masks)].astype(np.uint8),
                "clicks": rows.copy(),
                "spacing": spacing.copy(),
            }
            info: dict[str, Any] = {"clicks_used": step, "structure": "1", "modality": "other", "case_id": "fixed"}
            if clicker.oracle:
                info["truth"] = truth.copy()
            action = [int(value) for value in clicker.act(observation, info)]
            yield action
            if action[3] == STOP:
                return
            rows[step] = action
    except Exception as error:  # a refusal of this grid is behaviour too
        yield type(error).__name__


def _error_maps(shape: tuple[int, int, int]) -> tuple[NDArray[np.bool_], list[NDArray[np.bool_]]]:
    """Return a structure of two parts, and masks with different kinds of errors."""
    depth, height, width = shape
    z, y, x = np.indices(shape)
    middle = depth // 2
    ball = 9 * (z - middle) ** 2 + (y - 9) ** 2 + (x - 8) ** 2 <= 36
    bar = (abs(z - middle) <= depth // 4) & (y >= height - 6) & (y < height - 2) & (x >= 3) & (x < width - 4)
    truth = ball | bar
    grown = 9 * (z - middle) ** 2 + (y - 10) ** 2 + (x - 9) ** 2 <= 64
    hole = (abs(y - 10) <= 1) & (abs(x - 9) <= 2)
    shifted = np.roll(truth, (2, 3), (1, 2))
    empty = np.zeros(shape, dtype=bool)
    return truth, [empty, shifted, grown & ~hole, y + x < height, truth.copy(), empty]
