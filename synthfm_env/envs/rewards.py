"""Rewards of a step, by name."""

from collections.abc import Callable

from synthfm_env.errors import unknown_name

Reward = Callable[[float, float], float]
"""From the Dice before and after a step to the step's reward."""


def dice_gain(before: float, after: float) -> float:
    """Return by how much the step raised Dice. Over an episode the rewards sum to the final Dice."""
    return after - before


REWARDS: dict[str, Reward] = {"dice_gain": dice_gain}


def make_reward(name: str) -> Reward:
    """Return the reward function of a name.

    Raises:
        InputError: no reward has that name.
    """
    if name not in REWARDS:
        raise unknown_name("reward", name, REWARDS)
    return REWARDS[name]
