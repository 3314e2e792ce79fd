"""Actions of the environments as arrays: z, y, x and what to do there."""

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from synthfm_env.errors import InputError
from synthfm_env.printable import shown
from synthfm_env.prompts import Click

NEGATIVE: Final = 0
POSITIVE: Final = 1
STOP: Final = 2


def click_action(click: Click) -> NDArray[np.int64]:
    """Return the action, int64 (4,), that places a click."""
    return np.array([*click.zyx, POSITIVE if click.positive else NEGATIVE], dtype=np.int64)


def stop_action() -> NDArray[np.int64]:
    """Return the action, int64 (4,), that ends the episode without a click."""
    return np.array([0, 0, 0, STOP], dtype=np.int64)


def read_action(action: ArrayLike, shape: tuple[int, int, int]) -> Click | None:
    """Return the click that an action places, or None if it stops.

    Args:
        action: four integers: z, y, x and 0 negative, 1 positive, 2 stop.
        shape: (D, H, W) of the grid that is clicked in.

    Raises:
        InputError: not four integers, or one of them out of its range.
    """
    try:
        values = np.asarray(action)
    except (TypeError, ValueError):  # a ragged list
        values = np.empty(0)
    limits = np.array([*shape, STOP + 1])
    fits = (
        not isinstance(action, np.ma.MaskedArray) and values.shape == (4,) and np.issubdtype(values.dtype, np.integer)
    )
    if not fits or (values < 0).any() or (values >= limits).any():
        raise InputError(
            f"env.step() got action {shown(action, 200)}, which is not in MultiDiscrete({limits.tolist()}): "
            "give four integers z, y, x and 0 negative, 1 positive or 2 stop, each below its limit"
        )
    z, y, x, kind = values.tolist()
    return None if kind == STOP else Click((z, y, x), kind == POSITIVE)
