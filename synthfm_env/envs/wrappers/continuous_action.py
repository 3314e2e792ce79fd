"""Takes clicks as real numbers."""

from typing import Any, Final

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from synthfm_env.envs.actions import STOP
from synthfm_env.envs.wrappers.action_grid import click_limits
from synthfm_env.errors import InputError

STOP_ABOVE: Final = 0.9
"""Threshold of the action "stop", high enough that an untrained policy seldom stops."""


class ContinuousAction(gym.ActionWrapper[Any, Any, Any], gym.utils.RecordConstructorArgs):
    """Take a click as real numbers in [-1, 1], for learners of continuous actions (PPO, SAC and the like).

    The action space is `Box(-1, 1, (5,))`: z, y, x from one side of the grid to the other, each voxel an equal share;
    the sign, positive from 0 on; and "stop", above 0.9 (with `UndoAction` inside, undo likewise after it). Numbers
    beyond -1 and 1 count as these.

    Raises:
        InputError: the environment's actions are not clicks on a grid.

    Example:
        >>> import gymnasium as gym
        >>> import synthfm_env
        >>> env = gym.make("SynthFM/Synthetic3D-v0", shape=[8, 32, 32], recipe="clear", segmenter="geodesic")
        >>> ContinuousAction(env).action_space.shape
        (5,)
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        gym.utils.RecordConstructorArgs.__init__(self)
        super().__init__(env)
        *grid, kinds = click_limits("ContinuousAction", env).tolist()
        self._grid = np.array(grid)
        self.action_space = spaces.Box(-1.0, 1.0, (len(grid) + 1 + kinds - STOP,), np.float32)

    def action(self, action: Any) -> NDArray[np.int64]:
        """Return the wrapped environment's action.

        Raises:
            InputError: the action has another shape, or a number is not finite.
        """
        values = np.asarray(action)
        if values.shape != self.action_space.shape or not np.issubdtype(values.dtype, np.number):
            raise InputError(f"env.step() got action {action!r}: expected an array in {self.action_space}")
        if not np.isfinite(values).all():
            raise InputError(f"env.step() got action {action!r}: its numbers must be finite")
        place, sign, rest = np.split(np.clip(values, -1, 1), [self._grid.size, self._grid.size + 1])
        voxel = np.minimum(((place.astype(np.float64) + 1) / 2 * self._grid).astype(np.int64), self._grid - 1)
        others = np.flatnonzero(rest > STOP_ABOVE)  # stop, and undo if the wrapped environment has it
        kind = STOP + others[0] if others.size else int(sign[0] >= 0)
        return np.array([*voxel, kind], dtype=np.int64)
