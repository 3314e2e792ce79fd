"""The contract of a clicker: an agent that looks at an observation and says where to click next."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from synthfm_env.errors import InputError
from synthfm_env.prompts import Click

Observation = Mapping[str, NDArray[Any]]


class Clicker(ABC):
    """Places the clicks of an episode.

    A subclass writes ``act``; one that draws at random takes its draws from ``self.rng``, which ``reset``
    seeds, so that the same seed gives the same clicks. The first line of its docstring is what
    ``synthfm list clickers`` prints.

    Attributes:
        name: under which it is recorded.
        oracle: True for a clicker that looks at the truth, as simulated users do; it needs an environment
            with ``reveal_truth=True``, and boards keep it apart from the blind ones.
        at_once: True for a clicker whose clicks are one prompt: all are given together, and the segmenter answers once.
        rng: source of all chance, seeded by ``reset``.

    Example:
        >>> import numpy as np
        >>> from synthfm_env import Click
        >>> from synthfm_env.envs.actions import click_action
        >>> class Corner(Clicker):
        ...     name = "corner"
        ...
        ...     def act(self, observation, info):
        ...         return click_action(Click((0, 0, 0)))
        >>> Corner().act({}, {}).tolist()
        [0, 0, 0, 1]
    """

    name: ClassVar[str]
    oracle: ClassVar[bool] = False
    at_once: ClassVar[bool] = False
    rng: np.random.Generator

    def reset(self, seed: int) -> None:
        """Begin an episode: forget the last one and seed all chance."""
        self.rng = np.random.default_rng(seed)

    @abstractmethod
    def act(self, observation: Observation, info: Mapping[str, Any]) -> NDArray[np.int64]:
        """Return the next action of ``PromptEnv``, int64 (4,): z, y, x and 0 negative, 1 positive, 2 stop.

        ``synthfm_env.envs.actions`` has functions that build it.

        Args:
            observation: from ``env.reset`` or ``env.step``: image, mask, clicks, spacing; axes (z, y, x).
            info: from the same call; an oracle finds the truth there.
        """

    def truth(self, info: Mapping[str, Any]) -> NDArray[np.bool_]:
        """Return the truth, bool (D, H, W), that the environment reveals.

        Raises:
            InputError: it reveals none.
        """
        if "truth" not in info:
            raise InputError(
                f"clicker {self.name!r} is an oracle and info holds no 'truth': "
                "make the environment with reveal_truth=True"
            )
        return np.asarray(info["truth"], dtype=bool)


def clicks_in(observation: Observation) -> tuple[Click, ...]:
    """Return the clicks placed so far, oldest first."""
    return tuple(Click((z, y, x), bool(sign)) for z, y, x, sign in observation["clicks"].tolist() if z >= 0)


def middle_of(observation: Observation) -> tuple[int, int, int]:
    """Return the voxel in the middle of the image, the later of two."""
    z, y, x = (n // 2 for n in observation["image"].shape)
    return z, y, x
