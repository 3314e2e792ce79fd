"""Detects changes of the global random state, for the checks of segmenters and of clickers."""

import random
from typing import Any

import numpy as np


def global_random_state() -> tuple[Any, ...]:
    """Return the states of the global generators of ``random`` and numpy, to compare them after a call."""
    legacy: Any = np.random.get_state()  # noqa: NPY002 - to detect draws from it
    kind, keys, *rest = legacy
    return random.getstate(), kind, keys.tobytes(), tuple(rest)
