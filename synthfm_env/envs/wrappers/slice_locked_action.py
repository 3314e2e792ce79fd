"""Restricts clicks to one slice."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from synthfm_env.envs.wrappers.action_grid import click_limits
from synthfm_env.errors import InputError
from synthfm_env.printable import shown


class SliceLockedAction(gym.Wrapper[Any, Any, Any, Any], gym.utils.RecordConstructorArgs):
    """Lock all clicks of an episode to one slice, for the prompting of single slices.

    The action space is `MultiDiscrete([H, W, 3])`: y, x and what to do. `info["slice"]` names the slice.
    `reset(options={"slice": 12})` picks it for that episode.

    Args:
        env: the environment.
        index: the slice z; None takes the middle one.

    Raises:
        InputError: the environment's actions are not clicks in a volume, or it has no such slice.

    Example:
        >>> import gymnasium as gym
        >>> import synthfm_env
        >>> env = gym.make("SynthFM/Synthetic3D-v0", shape=[8, 32, 32], recipe="clear", segmenter="geodesic")
        >>> SliceLockedAction(env).reset(seed=0)[1]["slice"]
        4
    """

    def __init__(self, env: gym.Env[Any, Any], index: int | None = None) -> None:
        gym.utils.RecordConstructorArgs.__init__(self, index=index)
        super().__init__(env)
        limits = click_limits("SliceLockedAction", env)
        if limits.size != 4:
            raise InputError(f"SliceLockedAction needs actions z, y, x, kind, but this environment takes {limits}")
        self._depth = int(limits[0])
        self._default = self._checked(self._depth // 2 if index is None else index)
        self._slice = self._default
        self.action_space = spaces.MultiDiscrete(limits[1:])

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode; ``options={"slice": z}`` picks its slice.

        Raises:
            InputError: there is no such slice, or the options are no dict.
        """
        if not isinstance(options, dict | None):
            raise InputError(f"reset(options={shown(options)}): expected a dict, for example {{'slice': 1}}")
        rest = dict(options or {})
        self._slice = self._checked(rest.pop("slice", self._default))
        observation, info = self.env.reset(seed=seed, options=rest)
        return observation, {**info, "slice": self._slice}

    def step(self, action: ArrayLike) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Place one click in the slice, or stop."""
        observation, reward, terminated, truncated, info = self.env.step(self._in_volume(action))
        return observation, reward, terminated, truncated, {**info, "slice": self._slice}

    def _in_volume(self, action: ArrayLike) -> NDArray[np.integer]:
        values = np.asarray(action)
        if values.shape != (3,) or not np.issubdtype(values.dtype, np.integer):
            raise InputError(f"env.step() got action {action!r}: expected three integers in {self.action_space}")
        return np.array([self._slice, *values])

    def _checked(self, index: Any) -> int:
        if isinstance(index, bool) or not isinstance(index, int | np.integer) or not 0 <= index < self._depth:
            raise InputError(f"there is no slice {index!r}: this environment has slices 0 to {self._depth - 1}")
        return int(index)
