"""Plays many episodes at once on one segmenter, which answers all their clicks as a batch."""

import logging
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import ArrayLike, NDArray

from synthfm_env.arguments import check_flag, check_name, check_whole
from synthfm_env.envs.dataset_env import DatasetEnv
from synthfm_env.envs.draw_ahead import DrawAhead, spare_cpus
from synthfm_env.envs.prompt_env import EpisodeOptions, PromptEnv
from synthfm_env.envs.synthetic_env import SyntheticEnv
from synthfm_env.envs.volume_env import VolumeEnv
from synthfm_env.errors import InputError
from synthfm_env.prompts import Click
from synthfm_env.segmenters.base import Prediction
from synthfm_env.volumes import Volume, load_volume
from synthfm_env.volumes.volume_description import open_described

_log = logging.getLogger(__name__)

DescribeEnd = Callable[[PromptEnv, dict[str, Any]], dict[str, Any]]


class PromptVectorEnv(SyncVectorEnv):
    """Play ``num_envs`` environments side by side; their segmenter gets the clicks of a step as one batch.

    Each environment returns the same values as alone, in the form of Gymnasium's ``SyncVectorEnv``. If one action is
    not in the action space, no environment changes. Observations are written into arrays that are allocated once.

    Args:
        make: makes one environment; all must share their segmenter.
        num_envs: number of environments, 1 or more.
        autoreset_mode: what follows the end of an episode, Gymnasium's ``AutoresetMode`` or its value. With the
            default, ``"NextStep"``, the next step begins the next episode and ignores the action.
        copy: whether to return copies of the observations. If False, ``reset`` and ``step`` return the same arrays
            every time and overwrite them.

    Raises:
        InputError: fewer than one environment, an unknown mode, or an argument of another type.

    Example:
        >>> import gymnasium as gym
        >>> envs = gym.make_vec(
        ...     "synthfm_env:SynthFM/Synthetic3D-v0", num_envs=2, shape=[8, 32, 32], segmenter="geodesic", copy=False
        ... )
        >>> observations, infos = envs.reset(seed=0)
        >>> observations["image"].shape
        (2, 8, 32, 32)
        >>> envs.close()
    """

    envs: list[PromptEnv]  # type: ignore[assignment]  # without wrappers

    def __init__(
        self, make: Callable[[], PromptEnv], num_envs: int, autoreset_mode: str | AutoresetMode, copy: bool = True
    ) -> None:
        check_whole(num_envs, "num_envs", 1, "a number of environments")
        check_flag(copy, "copy")
        if not isinstance(autoreset_mode, AutoresetMode):
            check_name("autoreset mode", autoreset_mode, [mode.value for mode in AutoresetMode])
        super().__init__([make] * num_envs, autoreset_mode=autoreset_mode, copy=copy)
        rows = [{key: array[i, ...] for key, array in self._observations.items()} for i in range(num_envs)]
        for env, row in zip(self.envs, rows, strict=True):
            env.observation_buffer = row
        self._env_obs = rows  # type: ignore[assignment]  # what `reset` of the base class fills in

    def step(
        self, actions: ArrayLike, describe_end: DescribeEnd | None = None
    ) -> tuple[Any, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Place a click, or stop, in every environment.

        Args:
            actions: integers (num_envs, 4): z, y, x and 0 negative, 1 positive, 2 stop.
            describe_end: returns further keys of ``infos["final_obs"]``, from an environment whose episode ended and
                its last observation. With ``"SameStep"`` it is called before the reset, for wrappers that add keys.

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
        # First half of each step: check all actions before anything changes.
        begins = self.begins_next()
        clicks = [
            None if begin else env.pending_click(action)
            for env, action, begin in zip(self.envs, actions, begins, strict=True)
        ]
        # One batch for the segmenter, then the second half of each step, or a reset.
        answers = self._answer_together(clicks)
        infos: dict[str, Any] = {}
        for i, env in enumerate(self.envs):
            if begins[i]:
                info = env.reset()[1]
                self._rewards[i], self._terminations[i], self._truncations[i] = 0.0, False, False
            else:
                _, self._rewards[i], self._terminations[i], self._truncations[i], info = env.finish_step(
                    clicks[i], answers.get(i)
                )
            ended = self._terminations[i] or self._truncations[i]
            if ended and self.autoreset_mode is AutoresetMode.SAME_STEP:
                last = _copied(env)
                if describe_end is not None:
                    last |= describe_end(env, last)
                infos = self._add_info(infos, {"final_obs": last, "final_info": info}, i)
                info = env.reset()[1]
            infos = self._add_info(infos, info, i)
        self._autoreset_envs = self._terminations | self._truncations
        observations = deepcopy(self._observations) if self.copy else self._observations
        return observations, self._rewards.copy(), self._terminations.copy(), self._truncations.copy(), infos

    def begins_next(self) -> NDArray[np.bool_]:
        """Return which environments the next step resets, bool (num_envs,); it ignores their actions."""
        if self.autoreset_mode is AutoresetMode.NEXT_STEP:
            return self._autoreset_envs
        return np.zeros(self.num_envs, dtype=bool)

    def _answer_together(self, clicks: Sequence[Click | None]) -> dict[int, Prediction]:
        """Return the segmenter's answers to the clicks of a step, by environment; none if the batch failed."""
        asked = [i for i, click in enumerate(clicks) if click is not None]
        if not asked:
            return {}
        sessions = [self.envs[i].session for i in asked]
        try:
            answers = self.envs[0].segmenter.add_many(sessions, [click for click in clicks if click is not None])
        except Exception:  # each environment then gives its click alone, and those that fail end with that outcome
            _log.debug("the segmenter failed on a batch", exc_info=True)
            return {}
        return dict(zip(asked, answers, strict=True))


def _copied(env: PromptEnv) -> dict[str, Any]:
    """Return a copy of an environment's row of the observations, with the value of a Discrete space as a number."""
    row = env.observation_buffer
    assert row is not None
    return {key: value.copy() if value.ndim else value[()] for key, value in row.items()}


class SyntheticVectorEnv(PromptVectorEnv):
    """Environments of ``SyntheticEnv``, which documents the arguments. See ``PromptVectorEnv``.

    Other processes draw the volume of each environment's next episode ahead, so that its reset does not wait. Results
    do not depend on them.

    Args:
        num_envs: how many environments, 1 or more.
        autoreset_mode: see ``PromptVectorEnv``.
        copy: see ``PromptVectorEnv``.
        workers: number of processes that draw volumes; None for the number of other CPUs, at most one for each
            environment.
        kwargs: arguments of ``SyntheticEnv``.

    Raises:
        InputError: fewer than 0 workers, or what ``PromptVectorEnv`` and ``SyntheticEnv`` raise.
    """

    def __init__(
        self,
        *,
        num_envs: int = 1,
        autoreset_mode: str | AutoresetMode = "NextStep",
        copy: bool = True,
        workers: int | None = None,
        **kwargs: Any,
    ) -> None:
        if workers is not None:
            check_whole(workers, "workers", 0, "None or a number of processes")
        super().__init__(partial(SyntheticEnv, **kwargs), num_envs, autoreset_mode, copy)
        count = min(spare_cpus(), num_envs) if workers is None else workers
        first = self.envs[0]
        assert isinstance(first, SyntheticEnv)
        self.draw_ahead = DrawAhead(first.generator, count)
        for env in self.envs:
            assert isinstance(env, SyntheticEnv)
            env.draw_ahead = self.draw_ahead

    def close_extras(self, **kwargs: Any) -> None:
        """Close the environments and end the processes."""
        super().close_extras(**kwargs)
        self.draw_ahead.close()


class DatasetVectorEnv(PromptVectorEnv):
    """Environments of ``DatasetEnv``, which documents the arguments; they share the cases. See ``PromptVectorEnv``."""

    def __init__(
        self,
        *,
        num_envs: int = 1,
        autoreset_mode: str | AutoresetMode = "NextStep",
        copy: bool = True,
        **kwargs: Any,
    ) -> None:
        first = DatasetEnv(**kwargs)
        made = iter([first])
        make = partial(DatasetEnv, pool=first.pool, **kwargs)
        super().__init__(lambda: next(made, None) or make(), num_envs, autoreset_mode, copy)


class VolumeVectorEnv(PromptVectorEnv):
    """Environments of ``VolumeEnv``, which documents the arguments, on one volume. See ``PromptVectorEnv``."""

    def __init__(
        self,
        *,
        image: str | Path | Volume | Mapping[str, Any],
        label: str | Path | None = None,
        structure: int | str | None = None,
        modality: str | None = None,
        num_envs: int = 1,
        autoreset_mode: str | AutoresetMode = "NextStep",
        copy: bool = True,
        **episode: Unpack[EpisodeOptions],
    ) -> None:
        # Read once for all.
        if isinstance(image, Mapping):
            image = open_described(image)
        if not isinstance(image, Volume):
            image, label, modality = load_volume(image, label, modality=modality), None, None
        make = partial(VolumeEnv, image=image, label=label, structure=structure, modality=modality, **episode)
        super().__init__(make, num_envs, autoreset_mode, copy)
