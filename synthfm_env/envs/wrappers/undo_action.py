"""Adds an action that takes back the newest click."""

from typing import Any, Final

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike

from synthfm_env.envs.actions import STOP
from synthfm_env.envs.prompt_env import PromptEnv
from synthfm_env.errors import InputError

UNDO: Final = STOP + 1
"""The value of an action's fourth number that takes back the newest click."""


class UndoAction(gym.Wrapper[Any, Any, Any, Any], gym.utils.RecordConstructorArgs):
    """Add an action that takes back the newest click.

    The action space is `MultiDiscrete([D, H, W, 4])`: what to do is 0 negative, 1 positive, 2 stop or 3 undo. An
    undo restores the mask before the newest click; the reward is the change of the score. It counts towards
    `max_clicks` like a click, even if there is no click to take back, so that every episode ends. Wrap `gym.make`'s
    environment with it first: wrappers inside it do not see an undo.

    Raises:
        InputError: not an environment of this project, or its actions are changed already.

    Example:
        >>> import gymnasium as gym
        >>> import synthfm_env
        >>> env = gym.make("SynthFM/Synthetic3D-v0", shape=[8, 32, 32], recipe="clear", segmenter="geodesic")
        >>> UndoAction(env).action_space.nvec.tolist()
        [8, 32, 32, 4]
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        gym.utils.RecordConstructorArgs.__init__(self)
        super().__init__(env)
        if not isinstance(env.unwrapped, PromptEnv) or env.action_space != env.unwrapped.action_space:
            raise InputError(
                f"UndoAction needs a SynthFM environment with its own actions, but this one takes {env.action_space}: "
                "put UndoAction inside the wrapper that changes them"
            )
        self._prompt_env = env.unwrapped
        limits = env.unwrapped.action_space.nvec.copy()
        limits[-1] = UNDO + 1
        self.action_space = spaces.MultiDiscrete(limits)

    def step(self, action: ArrayLike) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Place one click, stop, or take back the newest click."""
        values = np.asarray(action)
        if self.action_space.contains(values) and values[3] == UNDO:
            return self._prompt_env.undo()
        return self.env.step(action)
