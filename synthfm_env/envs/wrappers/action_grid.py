"""Reads the grid of an environment's click actions."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from synthfm_env.errors import InputError


def click_limits(wrapper: str, env: gym.Env[Any, Any]) -> NDArray[np.int64]:
    """Return the number of values of each part of an action, int64: the axes of the grid, last what to do there.

    Args:
        wrapper: name of the wrapper, for the message.
        env: the environment that it wraps.

    Raises:
        InputError: its actions are not clicks on a grid.
    """
    space = env.action_space
    if not isinstance(space, spaces.MultiDiscrete) or space.nvec.ndim != 1 or space.nvec[-1] < 3:
        raise InputError(
            f"{wrapper} needs the click actions of a SynthFM environment, MultiDiscrete([..., 3]), but this one "
            f"takes {space}: wrap gym.make's environment first, and change its actions once"
        )
    return space.nvec.astype(np.int64)
