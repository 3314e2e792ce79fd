"""Checks that the wrappers inside a wrapper leave the parts of the observation that it reads as they are."""

from typing import Any

import gymnasium as gym
from gymnasium import spaces

from synthfm_env.envs.prompt_env import PromptEnv
from synthfm_env.errors import InputError


def check_seen_parts(wrapper: str, env: gym.Env[Any, Any], inner: PromptEnv, keys: tuple[str, ...]) -> None:
    """Raise InputError unless parts of the observation have the shape and type that the innermost environment gives.

    Args:
        wrapper: name of the wrapper, for the message.
        env: the environment that it wraps.
        inner: the innermost environment.
        keys: the parts that it reads.
    """
    changed = [key for key in keys if not _is_as_made(env, inner, key)]
    if not changed:
        return
    layer = env
    while isinstance(layer, gym.Wrapper) and not _is_as_made(layer.env, inner, changed[0]):
        layer = layer.env
    outer = type(layer).__name__
    raise InputError(
        f"{wrapper} reads {' and '.join(changed)} of the observation, which {outer} changes or leaves out: "
        f"wrap it inside {outer}, as {outer}({wrapper}(env))"
    )


def _is_as_made(env: gym.Env[Any, Any], inner: PromptEnv, key: str) -> bool:
    """Tell whether a part of the observation has the shape and type of the innermost environment's."""
    space = env.observation_space
    if not isinstance(space, spaces.Dict) or key not in space.keys():  # noqa: SIM118 - spaces.Dict has no `in`
        return False
    part, made = space[key], inner.observation_space[key]
    return part.shape == made.shape and part.dtype == made.dtype
