"""Simulates a user's imprecise clicks and wrong signs."""

from typing import Any, Final

import gymnasium as gym
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from synthfm_env.arguments import is_number
from synthfm_env.envs.actions import STOP, click_action, read_action, stop_action
from synthfm_env.envs.prompt_env import PromptEnv
from synthfm_env.envs.wrappers.seen_parts import check_seen_parts
from synthfm_env.errors import InputError
from synthfm_env.geometry import bounding_box
from synthfm_env.printable import shown
from synthfm_env.prompts import Click

NOISE: Final = 1
"""Second part of the noise's seed, so that it differs from the environment's, which has the same first part."""

MOST_MM: Final = 1e4
"""Largest jitter, in mm; longer than any image."""


class NoisyClicks(gym.Wrapper[Any, Any, Any, Any], gym.utils.RecordConstructorArgs):
    """Place clicks as a user does who aims badly, confuses the signs and overlooks small errors.

    `observation["clicks"]` shows the clicks as they were placed. The noise follows from the seed of `reset`
    and has its own generator, so the episodes are the same as without noise.

    Args:
        env: the environment, its actions z, y, x, kind.
        jitter_mm: standard deviation of the aim along each axis, in mm; clicks stay inside the grid.
        wrong_sign: how often a click has the other sign, in [0, 1].
        missed_mm3: size in mm³ below which an error of the mask is not seen: instead of a click into it, the user
            stops. An error is a connected region (26 neighbours) that the mask
            misses or wrongly covers. Needs an environment with `reveal_truth=True`.

    Raises:
        InputError: a value of another type or out of its range, actions or observations of another form, or no truth
            to find errors with.

    Example:
        >>> import gymnasium as gym
        >>> import synthfm_env
        >>> env = gym.make("SynthFM/Synthetic3D-v0", shape=[8, 32, 32], recipe="clear", segmenter="geodesic")
        >>> NoisyClicks(env, jitter_mm=2.0).reset(seed=0)[1]["clicks_used"]
        0
    """

    def __init__(
        self, env: gym.Env[Any, Any], jitter_mm: float = 0.0, wrong_sign: float = 0.0, missed_mm3: float = 0.0
    ) -> None:
        # Check what the user gave.
        gym.utils.RecordConstructorArgs.__init__(
            self, jitter_mm=jitter_mm, wrong_sign=wrong_sign, missed_mm3=missed_mm3
        )
        super().__init__(env)
        for name, value, most in (
            ("jitter_mm", jitter_mm, MOST_MM),
            ("wrong_sign", wrong_sign, 1),
            ("missed_mm3", missed_mm3, MOST_MM**3),
        ):
            if not is_number(value) or not 0 <= value <= most:
                raise InputError(f"NoisyClicks: {name} is {shown(value)}, expected a number from 0 to {most:g}")
        inner = env.unwrapped
        if not isinstance(inner, PromptEnv) or env.action_space.shape != inner.action_space.shape:
            raise InputError(
                f"NoisyClicks needs the actions z, y, x, kind of a SynthFM environment, but this one takes "
                f"{env.action_space}: put NoisyClicks inside the wrapper that changes them"
            )
        if missed_mm3 > 0 and not inner.reveal_truth:
            raise InputError("NoisyClicks: missed_mm3 needs the truth: make the environment with reveal_truth=True")
        read = ("mask", "spacing") if missed_mm3 > 0 else ("spacing",)
        check_seen_parts("NoisyClicks", env, inner, read)
        # Start without noise drawn; ``reset`` seeds the generator.
        self.jitter_mm, self.wrong_sign, self.missed_mm3 = jitter_mm, wrong_sign, missed_mm3
        depth, height, width, _ = inner.action_space.nvec.tolist()
        self._shape = (depth, height, width)
        self._rng = np.random.default_rng()
        self._spacing = np.ones(3)
        self._mask = self._truth = np.zeros(self._shape, dtype=bool)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode; a seed seeds the noise too."""
        if seed is not None:
            self._rng = np.random.default_rng([seed, NOISE])
        observation, info = self.env.reset(seed=seed, options=options)
        self._remember(observation, info)
        return observation, info

    def step(self, action: ArrayLike) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Place the click that the simulated user makes instead of ``action``."""
        observation, reward, terminated, truncated, info = self.env.step(self._noisy_action(action))
        self._remember(observation, info)
        return observation, reward, terminated, truncated, info

    def _remember(self, observation: dict[str, Any], info: dict[str, Any]) -> None:
        self._spacing = observation["spacing"].astype(np.float64)
        if self.missed_mm3 > 0:
            self._mask, self._truth = observation["mask"] > 0, info["truth"]

    def _noisy_action(self, action: ArrayLike) -> ArrayLike:
        """Return the action with noise; stop if the error that it is aimed into is too small to be seen."""
        values = np.asarray(action)
        if values.shape == (4,) and values[3] >= STOP:
            return action
        meant = read_action(action, self._shape)
        if meant is None or (self.missed_mm3 > 0 and self._error_mm3(meant) < self.missed_mm3):
            return stop_action()
        return self._noisy_click(meant)

    def _noisy_click(self, meant: Click) -> NDArray[np.int64]:
        off = np.rint(self._rng.normal(0.0, 1.0, 3) * self.jitter_mm / self._spacing).astype(int)
        z, y, x = np.clip(np.add(meant.zyx, off), 0, np.subtract(self._shape, 1)).tolist()
        wrong = bool(self._rng.random() < self.wrong_sign)
        return click_action(Click((z, y, x), meant.positive != wrong))

    def _error_mm3(self, meant: Click) -> float:
        """Return the size of the error that a click is aimed into; infinite if it is aimed into none."""
        error = self._truth & ~self._mask if meant.positive else self._mask & ~self._truth
        if not error[meant.zyx]:
            return np.inf
        box = bounding_box(error)
        assert box is not None, "the click is inside the error"
        regions, _ = ndimage.label(error[box], structure=np.ones((3, 3, 3)))
        inside = tuple(i - part.start for i, part in zip(meant.zyx, box, strict=True))
        return float(np.count_nonzero(regions == regions[inside]) * self._spacing.prod())
