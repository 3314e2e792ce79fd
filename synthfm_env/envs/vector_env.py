"""Many episodes at once on one segmenter, which answers all their clicks together."""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import ArrayLike, NDArray

from synthfm_env.envs.prompt_env import EpisodeOptions, PromptEnv
from synthfm_env.envs.synthetic_env import SyntheticEnv
from synthfm_env.envs.volume_env import VolumeEnv
from synthfm_env.errors import InputError, unknown_name
from synthfm_env.volumes import Volume, load_volume

_log = logging.getLogger(__name__)


class PromptVectorEnv(SyncVectorEnv):
    """Play ``num_envs`` environments side by side; their segmenter gets the clicks of a step as one batch.

    Each returns what it would return alone, in the form that Gymnasium's ``SyncVectorEnv`` gives it. An action that is
    not in the action space changes none of them.

    Args:
        make: makes one environment; all must share their segmenter.
        num_envs: how many, 1 or more.
        autoreset_mode: what follows the end of an episode, a value of Gymnasium's ``AutoresetMode``, see
            ``metadata["autoreset_mode"]``. By default, ``"NextStep"``, the next step begins the next one, whatever the
            action.

    Raises:
        InputError: fewer than one environment, or an unknown mode.
    """

    envs: list[PromptEnv]  # type: ignore[assignment]  # no wrappers between

    def __init__(self, make: Callable[[], PromptEnv], num_envs: int, autoreset_mode: str) -> None:
        if num_envs < 1:
            raise InputError(f"num_envs is {num_envs}: a vector environment needs at least 1")
        modes = [mode.value for mode in AutoresetMode]
        if autoreset_mode not in modes:
            raise unknown_name("autoreset mode", autoreset_mode, modes)
        super().__init__([make] * num_envs, autoreset_mode=autoreset_mode)

    def step(
        self, actions: ArrayLike
    ) -> tuple[Any, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Place a click, or stop, in every environment.

        Args:
            actions: integers (num_envs, 4): z, y, x and 0 negative, 1 positive, 2 stop.

        Raises:
            InputError: an action is not in the action space.
            gymnasium.error.ResetNeeded: no episode is running.
        """
        actions = np.asarray(actions)
        if actions.shape != self.action_space.shape:
            raise InputError(
                f"env.step() got actions of shape {actions.shape}, expected {self.action_space.shape}: "
                "one row z, y, x and 0 negative, 1 positive or 2 stop for each environment"
            )
        self._ask_together(actions)
        return super().step(actions)

    def _ask_together(self, actions: NDArray[Any]) -> None:
        """Let the segmenter answer all clicks, and hand the answers to the environments."""
        begins = self._autoreset_envs if self.autoreset_mode is AutoresetMode.NEXT_STEP else np.zeros(len(actions))
        asked = [
            (env, *question)
            for env, action, begin in zip(self.envs, actions, begins, strict=True)
            if not begin and (question := env.question(action)) is not None
        ]
        if not asked:
            return
        envs, sessions, clicks = zip(*asked, strict=True)
        try:
            answers = envs[0].segmenter.add_many(sessions, clicks)
        except Exception:  # then each asks alone, and the one that fails ends with that outcome
            _log.debug("the segmenter failed on a batch", exc_info=True)
            return
        for env, answer in zip(envs, answers, strict=True):
            env.take_answer(answer)


class SyntheticVectorEnv(PromptVectorEnv):
    """Environments of ``SyntheticEnv``, which documents the arguments. See ``PromptVectorEnv``."""

    def __init__(self, *, num_envs: int = 1, autoreset_mode: str = "NextStep", **kwargs: Any) -> None:
        super().__init__(partial(SyntheticEnv, **kwargs), num_envs, autoreset_mode)


class VolumeVectorEnv(PromptVectorEnv):
    """Environments of ``VolumeEnv``, which documents the arguments, on one volume. See ``PromptVectorEnv``."""

    def __init__(
        self,
        *,
        image: str | Path | Volume,
        label: str | Path | None = None,
        structure: int | str | None = None,
        modality: str | None = None,
        num_envs: int = 1,
        autoreset_mode: str = "NextStep",
        **episode: Unpack[EpisodeOptions],
    ) -> None:
        if not isinstance(image, Volume):
            image, label, modality = load_volume(image, label, modality=modality), None, None  # read once for all
        make = partial(VolumeEnv, image=image, label=label, structure=structure, modality=modality, **episode)
        super().__init__(make, num_envs, autoreset_mode)
