"""Computes the reward of a step: the gain in a score, less prices."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import numpy as np

from synthfm_env.envs.episode import Episode, Outcome
from synthfm_env.errors import InputError, unknown_name
from synthfm_env.metrics import nsd
from synthfm_env.printable import shown
from synthfm_env.prompts import Click

TOLERANCE_MM: Final = 2.0
"""Default tolerance of ``nsd_gain`` in mm."""

Score = Callable[[Episode], float]


def _dice(episode: Episode) -> float:
    return episode.dice


def _nsd(episode: Episode, tolerance_mm: float) -> float:
    return nsd(episode.mask, episode.truth, episode.task.volume.spacing, tolerance_mm)


def _target_reached(episode: Episode) -> float:
    return float(episode.outcome is Outcome.TARGET_REACHED)


class Reward:
    """The gain in a score, less a price per click and one per change of slice.

    The score before the first step is 0, or that of the answer to the start prompt. Without prices, the rewards of an
    episode sum to the final score less that one. If the segmenter fails on a click, the score becomes 0 and the click
    costs its price. Stopping costs nothing.

    Args:
        score: returns the score of an episode.
        click_price: price of every click.
        slice_price: additional price of a click in another slice than the click before. The first click has none.
    """

    def __init__(self, score: Score, click_price: float, slice_price: float) -> None:
        self._score = score
        self._click_price = click_price
        self._slice_price = slice_price
        self._before = 0.0
        self._slice: int | None = None

    def reset(self, episode: Episode) -> None:
        """Begin an episode, whose start prompt has been answered."""
        self._before = self._score(episode) if episode.prediction is not None else 0.0
        self._slice = None

    def __call__(self, episode: Episode, click: Click | None) -> float:
        """Return the reward of the newest step, and keep the score for the next one.

        Args:
            episode: after the step.
            click: the click that the step placed, or None.
        """
        after = self._before if episode.outcome is Outcome.STOPPED else self._score(episode)
        reward, self._before = after - self._before, after
        if click is not None:
            moved = self._slice is not None and click.zyx[0] != self._slice
            reward -= self._click_price + self._slice_price * moved
            self._slice = click.zyx[0]
        return reward


REWARDS: Final = ("dice_gain", "nsd_gain", "target_reached")


def make_reward(reward: str | Mapping[str, Any], target_dice: float | None) -> Reward:
    """Return the reward of a name, or of ``{"name": ..., "click_price": ..., "slice_price": ...}``.

    ``nsd_gain`` takes ``tolerance_mm`` too.

    Args:
        reward: the environment's argument ``reward``.
        target_dice: the environment's argument of that name.

    Raises:
        InputError: no reward has that name; a parameter that it does not take, or one that is not a number of 0
            or more; ``target_reached`` without a target.
    """
    prices: dict[str, Any] = dict(reward) if isinstance(reward, Mapping) else {"name": reward}
    name = prices.pop("name", None)
    if not isinstance(name, str):
        raise InputError(f"reward is {shown(reward)}: expected a name, or a dict with a name under 'name'")
    if name not in REWARDS:
        raise unknown_name("reward", name, REWARDS)
    known = ["click_price", "slice_price"]
    if name == "nsd_gain":
        known.append("tolerance_mm")
    for key, value in prices.items():
        if key not in known:
            raise unknown_name(f"parameter of the reward {name}", key, known)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < np.inf:
            raise InputError(f"reward {name}: {key} is {shown(value)}, expected a number, 0 or more")
    if name == "target_reached" and target_dice is None:
        raise InputError("reward target_reached needs a target: give target_dice, a Dice above 0 and up to 1")
    scores: dict[str, Score] = {
        "dice_gain": _dice,
        "nsd_gain": partial(_nsd, tolerance_mm=prices.get("tolerance_mm", TOLERANCE_MM)),
        "target_reached": _target_reached,
    }
    return Reward(scores[name], prices.get("click_price", 0.0), prices.get("slice_price", 0.0))
