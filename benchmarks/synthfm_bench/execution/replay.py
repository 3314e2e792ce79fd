"""Plays the recorded clicks of an episode again, for its masks: records hold the clicks, not the masks."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

import synthfm_env  # noqa: F401 - registers the envs
from synthfm_bench.plan import SLICE_MARK, Case, env_spec, open_volume
from synthfm_bench.players import build_segmenter
from synthfm_bench.results.episode_result import EpisodeResult
from synthfm_bench.results.step_record import StepRecord
from synthfm_bench.suite import Choice, Data, DatasetData, Suite, SyntheticData
from synthfm_env.envs.actions import click_action
from synthfm_env.envs.prompt_env import PromptEnv
from synthfm_env.errors import InputError
from synthfm_env.printable import printable
from synthfm_env.prompts import Click
from synthfm_env.segmenters import Segmenter
from synthfm_env.volumes.datasets import get_layout


@dataclass(frozen=True, eq=False)
class ReplayedCase:
    """The image and truth that an episode is played on.

    Attributes:
        image: uint8 (D, H, W), axes (z, y, x), as the segmenter was given it.
        truth: bool (D, H, W).
        spacing: (z, y, x) in mm.
        anterior_up: whether y grows towards the front of the body, so that pictures turn it over.
    """

    image: NDArray[np.uint8]
    truth: NDArray[np.bool_]
    spacing: tuple[float, float, float]
    anterior_up: bool


@dataclass(frozen=True, eq=False)
class ReplayedAnswer:
    """A segmenter's answer to a recorded click, or to several that were given at once.

    Attributes:
        click: the click, the last one of several.
        mask: bool (D, H, W).
        step: the record of it.
        same: whether the mask is the recorded one, bit by bit.
    """

    click: Click
    mask: NDArray[np.bool_]
    step: StepRecord
    same: bool


def answered(episode: EpisodeResult) -> list[tuple[Click, StepRecord]]:
    """Return the clicks of an episode that were answered, with their records; the last one of several given at once."""
    found = []
    for step in episode.steps:
        clicks = clicks_of(step)
        if clicks and step.mask_sha256 is not None:
            found.append((clicks[-1], step))
    return found


def clicks_of(step: StepRecord) -> list[Click]:
    """Return the clicks of a record: none, one, or those that were given at once."""
    if step.prompt_zyxl is not None:
        return [Click((z, y, x), bool(label)) for z, y, x, label in step.prompt_zyxl]
    return [] if step.point_zyx is None else [Click(step.point_zyx, bool(step.label))]


def segmenter_of(suite: Suite, episode: EpisodeResult) -> Choice:
    """Return the segmenter of a suite that an episode was played with.

    Raises:
        InputError: the suite has none of that name.
    """
    name = episode.segmenter
    # A board of several runs may have put a mark behind the name, see merge.py.
    found = [choice for choice in suite.segmenters if name == choice.label or name.startswith(f"{choice.label} (")]
    if not found:
        raise InputError(f"segmenter {name} is not in the run's suite")
    return max(found, key=lambda choice: len(choice.label))


def data_of(suite: Suite, episode: EpisodeResult) -> Data:
    """Return the group of a suite that an episode is of.

    Raises:
        InputError: the suite has none of that name.
    """
    for data in suite.data:
        if data.name == episode.data_id:
            return data
    raise InputError(f"group {episode.data_id} is not in the run's suite")


class Replayer:
    """Replays episodes of one run. The model and the volume of the last one are kept for the next.

    Args:
        suite: of the run.
    """

    def __init__(self, suite: Suite) -> None:
        self._suite = suite
        self._segmenter: tuple[str, Segmenter] | None = None
        self._env: tuple[tuple[str, str, str], gym.Env[Any, Any], bool] | None = None

    def replay(self, episode: EpisodeResult) -> tuple[ReplayedCase, Iterator[ReplayedAnswer]]:
        """Open what an episode was played on, and return it with the answers to its clicks, one by one.

        Clicks that were not answered are left out.

        Raises:
            InputError: the suite no longer knows the segmenter or the data, the data cannot be read, or the image is
                not the one that was played.
        """
        env, anterior_up = self._open(episode)
        first = episode.steps[0]
        synthetic = isinstance(data_of(self._suite, episode), SyntheticData)
        observation, info = env.reset(seed=first.seed, options=None if synthetic else {"structure": first.structure})
        image = observation["image"]
        if first.image_sha256 not in (None, hashlib.sha256(image.data).hexdigest()):
            raise InputError(
                f"{episode.episode_id}: the image is not the one that was played; versions or files changed"
            )
        z, y, x = observation["spacing"].tolist()
        return ReplayedCase(image, info["truth"], (z, y, x), anterior_up), self._answers(env, episode)

    def close(self) -> None:
        """Free what is kept."""
        if self._env is not None:
            self._env[1].close()
        self._env = self._segmenter = None

    def _answers(self, env: gym.Env[Any, Any], episode: EpisodeResult) -> Iterator[ReplayedAnswer]:
        """Play the recorded clicks again and yield each answer, with the comparison of its mask."""
        prompt_env = env.unwrapped
        assert isinstance(prompt_env, PromptEnv), "an environment of this project"
        for step in episode.steps:
            if step.undone:
                prompt_env.undo()
                continue
            clicks = clicks_of(step)
            if not clicks or step.mask_sha256 is None:
                continue
            click = clicks[-1]
            if step.prompt_zyxl is None:
                observation, *_ = env.step(click_action(click))
            else:
                observation, *_ = prompt_env.step_together(clicks)
            mask = observation["mask"].view(bool)
            yield ReplayedAnswer(click, mask, step, hashlib.sha256(mask.data).hexdigest() == step.mask_sha256)

    def _open(self, episode: EpisodeResult) -> tuple[gym.Env[Any, Any], bool]:
        """Return the env of an episode, and whether the front of the body is at the top of its images."""
        case, first = self._case(episode), episode.steps[0]
        synthetic = isinstance(case.data, SyntheticData)
        key = (case.data.name, "" if synthetic else case.image_id, first.model)
        if self._env is not None and self._env[0] == key:
            return self._env[1], self._env[2]
        if self._env is not None:
            self._env[1].close()
            self._env = None
        registered = env_spec(self._suite, case.data, case)
        kwargs = registered["kwargs"]
        anterior_up = False
        if not synthetic:
            volume = open_volume(case)
            anterior_up = volume.affine is not None
            kwargs = kwargs | {"image": volume}
        segmenter = self._build(segmenter_of(self._suite, episode))
        env = gym.make(registered["id"], disable_env_checker=True, segmenter=segmenter, **kwargs)
        self._env = key, env, anterior_up
        return env, anterior_up

    def _build(self, choice: Choice) -> Segmenter:
        if self._segmenter is None or self._segmenter[0] != choice.label:
            self._segmenter = choice.label, build_segmenter(choice)
        return self._segmenter[1]

    def _case(self, episode: EpisodeResult) -> Case:
        """Return the case that an episode was played on; raise InputError if its image is gone."""
        data, first = data_of(self._suite, episode), episode.steps[0]
        image_id = first.image_id or first.case_id
        sliced = SLICE_MARK.search(image_id) if getattr(data, "slices", None) else None
        whole_id, z = (image_id[: sliced.start()], int(sliced[1])) if sliced else (image_id, None)
        item = None
        if isinstance(data, DatasetData):
            items = get_layout(data.layout).items(data.path, data.part)
            item = next((item for item in items if printable(item.image_id) == whole_id), None)
            if item is None:
                raise InputError(f"{data.path}: image {image_id} is gone; restore it")
        return Case(data, first.case_id, image_id, first.seed, (), item, z)
