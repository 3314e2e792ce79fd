"""Adds the errors of the mask to the observation, for agents that simulate a user."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from synthfm_env.envs.prompt_env import PromptEnv
from synthfm_env.envs.wrappers.seen_parts import check_seen_parts
from synthfm_env.errors import InputError


class ErrorMap(gym.Wrapper[Any, Any, Any, Any], gym.utils.RecordConstructorArgs):
    """Add the errors of the mask to the observation, for oracle agents; a blind agent must not see it.

    `observation["error"]`, uint8 (2, D, H, W), is 1 where the mask misses the truth, then where it wrongly covers
    something else.

    Args:
        env: one with `reveal_truth=True`.

    Raises:
        InputError: the environment does not reveal the truth, or a wrapper inside changes the mask.

    Example:
        >>> import gymnasium as gym
        >>> import synthfm_env
        >>> small = {"shape": [8, 32, 32], "recipe": "clear", "segmenter": "geodesic"}
        >>> env = ErrorMap(gym.make("SynthFM/Synthetic3D-v0", reveal_truth=True, **small))
        >>> env.reset(seed=0)[0]["error"].shape
        (2, 8, 32, 32)
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        gym.utils.RecordConstructorArgs.__init__(self)
        super().__init__(env)
        inner = env.unwrapped
        if not isinstance(inner, PromptEnv) or not inner.reveal_truth:
            raise InputError("ErrorMap needs the truth: make the environment with reveal_truth=True")
        check_seen_parts("ErrorMap", env, inner, ("mask",))
        assert isinstance(env.observation_space, spaces.Dict)
        shape = tuple(int(n) for n in inner.action_space.nvec[:3])
        error = spaces.Box(0, 1, (2, *shape), np.uint8)
        self.observation_space = spaces.Dict({**env.observation_space.spaces, "error": error})

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""
        observation, info = self.env.reset(seed=seed, options=options)
        return _with_error(observation, info), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step the environment."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return _with_error(observation, info), reward, terminated, truncated, info


def _with_error(observation: dict[str, Any], info: dict[str, Any]) -> dict[str, Any]:
    mask, truth = observation["mask"] > 0, info["truth"]
    return {**observation, "error": np.stack([truth & ~mask, mask & ~truth]).astype(np.uint8)}
