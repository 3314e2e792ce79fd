"""Defines the contract of a clicker: an agent that reads an observation and returns the next click."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from synthfm_env.errors import InputError
from synthfm_env.printable import shown
from synthfm_env.prompts import Click

Observation = Mapping[str, NDArray[Any]]


class Clicker(ABC):
    """Places the clicks of an episode.

    A subclass implements ``act``. It takes random numbers from ``self.rng`` alone, which ``reset`` seeds, so that the
    same seed gives the same clicks. ``synthfm list clickers`` prints the first line of its docstring.

    Attributes:
        name: the name in records.
        oracle: True if the clicker reads the truth, as simulated users do. It then needs an environment with
            ``reveal_truth=True``, and boards list it apart from blind clickers.
        at_once: True if all its clicks are one prompt, which the segmenter answers once.
        rng: the random generator, seeded by ``reset``.

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

    @property
    def answers(self) -> int:
        """Number of answers that the clicker itself asked a segmenter for, in addition to those to its clicks."""
        return 0

    def reset(self, seed: int) -> None:
        """Begin an episode: forget the last one and seed the random generator.

        Raises:
            InputError: the seed is not a whole number of 0 or more.
        """
        try:
            self.rng = np.random.default_rng(seed)
        except (TypeError, ValueError):
            raise InputError(
                f"clicker {self.name!r}: seed {shown(seed)}: expected a whole number of 0 or more"
            ) from None

    @abstractmethod
    def act(self, observation: Observation, info: Mapping[str, Any]) -> NDArray[np.int64]:
        """Return the next action of ``PromptEnv``, int64 (4,): z, y, x and 0 negative, 1 positive, 2 stop.

        ``click_action`` and ``stop_action`` of ``synthfm_env.envs.actions`` build it.

        Args:
            observation: from ``env.reset`` or ``env.step``: image, mask, clicks, spacing; axes (z, y, x).
            info: from the same call; for an oracle it contains the truth.
        """

    def truth(self, info: Mapping[str, Any]) -> NDArray[np.bool_]:
        """Return the truth, bool (D, H, W), that the environment reveals.

        Raises:
            InputError: the environment reveals no truth.
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
    """Return the voxel in the middle of the image; along an axis of even length the second of the two middle ones."""
    z, y, x = (n // 2 for n in observation["image"].shape)
    return z, y, x
