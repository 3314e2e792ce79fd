"""Takes a click as one number."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from synthfm_env.envs.actions import STOP
from synthfm_env.envs.wrappers.action_grid import click_limits
from synthfm_env.errors import InputError


class FlatAction(gym.ActionWrapper[Any, Any, Any], gym.utils.RecordConstructorArgs):
    """Take a click as one number, for learners of discrete actions (DQN and the like).

    The action space is `Discrete(2 * D * H * W + 1)`: number `2 * voxel + positive`, the voxels counted in raster
    order (z, y, x), and "stop" last (with `UndoAction` inside, undo after it). A volume has millions of actions;
    with `SliceLockedAction` inside there is one slice's worth of them.

    Raises:
        InputError: the environment's actions are not clicks on a grid.

    Example:
        >>> import gymnasium as gym
        >>> import synthfm_env
        >>> env = gym.make("SynthFM/Synthetic3D-v0", shape=[8, 32, 32], recipe="clear", segmenter="geodesic")
        >>> int(FlatAction(env).action_space.n)
        16385
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        gym.utils.RecordConstructorArgs.__init__(self)
        super().__init__(env)
        *grid, kinds = click_limits("FlatAction", env).tolist()
        self._grid = tuple(grid)
        self._clicks = 2 * int(np.prod(grid))
        self.action_space = spaces.Discrete(self._clicks + kinds - STOP)

    def action(self, action: Any) -> NDArray[np.int64]:
        """Return the wrapped environment's action.

        Raises:
            InputError: the action is no integer of the action space.
        """
        if not self.action_space.contains(action):
            raise InputError(f"env.step() got action {action!r}: expected an integer in {self.action_space}")
        number = int(action)
        if number >= self._clicks:
            return np.array([*(0 for _ in self._grid), STOP + number - self._clicks], dtype=np.int64)
        voxel, positive = divmod(number, 2)
        return np.array([*np.unravel_index(voxel, self._grid), positive], dtype=np.int64)
