"""Clicks at random: the lower bound of every board."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from synthfm_agents.base import Clicker, Observation
from synthfm_env.envs.actions import click_action
from synthfm_env.prompts import Click


class RandomClicker(Clicker):
    """Blind: a voxel uniform over the whole grid, positive or negative with equal chance; never stops."""

    name: ClassVar[str] = "random"

    def act(self, observation: Observation, info: Mapping[str, Any]) -> NDArray[np.int64]:
        """Return a random click."""
        z, y, x = (int(self.rng.integers(n)) for n in observation["image"].shape)
        return click_action(Click((z, y, x), positive=bool(self.rng.integers(2))))
