"""Subtracts the effort of a user from the reward."""

from typing import Any

import gymnasium as gym
import numpy as np

from synthfm_env.arguments import is_number
from synthfm_env.errors import InputError
from synthfm_env.printable import shown


class EffortCost(gym.Wrapper[Any, Any, Any, Any], gym.utils.RecordConstructorArgs):
    """Subtract the user's effort from any reward: every click, every slice scrolled, every mm of pointer movement.

    `info["effort"]` is the effort of the episode so far. Scrolling and movement are counted from one click to the next;
    before the first click they are free. An undo costs a click, without movement.

    Args:
        env: the environment.
        per_click: price of a click.
        per_slice: price of each slice between a click and the previous one, along z.
        per_mm: price of each mm between a click and the previous one, in the plane (y, x).

    Raises:
        InputError: a price that is no number of 0 or more.

    Example:
        >>> import gymnasium as gym
        >>> import synthfm_env
        >>> env = gym.make("SynthFM/Synthetic3D-v0", shape=[8, 32, 32], recipe="clear", segmenter="geodesic")
        >>> EffortCost(env, per_click=0.01).reset(seed=0)[1]["effort"]
        0.0
    """

    def __init__(
        self, env: gym.Env[Any, Any], per_click: float = 0.0, per_slice: float = 0.0, per_mm: float = 0.0
    ) -> None:
        gym.utils.RecordConstructorArgs.__init__(self, per_click=per_click, per_slice=per_slice, per_mm=per_mm)
        super().__init__(env)
        for name, price in (("per_click", per_click), ("per_slice", per_slice), ("per_mm", per_mm)):
            if not is_number(price) or not 0 <= price < np.inf:
                raise InputError(f"EffortCost: {name} is {shown(price)}, expected a number of 0 or more")
        self.per_click, self.per_slice, self.per_mm = per_click, per_slice, per_mm
        self._begin()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode without effort."""
        self._begin()
        observation, info = self.env.reset(seed=seed, options=options)
        return observation, {**info, "effort": 0.0}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step the environment and subtract the effort from its reward."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        effort = self._effort_of(observation, info["clicks_used"])
        self._total += effort
        return observation, float(reward) - effort, terminated, truncated, {**info, "effort": self._total}

    def _begin(self) -> None:
        self._total = 0.0
        self._used = self._in_force = 0
        self._last: Any = None

    def _effort_of(self, observation: dict[str, Any], used: int) -> float:
        """Return the effort of a step. It is computed from the observation, so that actions may have any form."""
        clicks = observation["clicks"]
        in_force = int(np.count_nonzero(clicks[:, 0] >= 0))
        effort = self.per_click * (used - self._used)
        if in_force > self._in_force:
            place = clicks[in_force - 1, :3].astype(np.float64)
            if self._last is not None:
                moved = place - self._last
                effort += self.per_slice * abs(moved[0])
                effort += self.per_mm * np.linalg.norm(moved[1:] * observation["spacing"][1:])
            self._last = place
        self._used, self._in_force = used, in_force
        return float(effort)
