"""Implements the games of the page: the recorded tasks of a suite, or one image without a truth.

A task is an episode of the suite that a person plays.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from synthfm_agents import make_clicker
from synthfm_agents.person import Person
from synthfm_bench.plan import EpisodeSpec
from synthfm_bench.play.person_episode import PersonEpisode, PersonPlayer, Thought
from synthfm_bench.play.person_run import PersonRun
from synthfm_bench.results.episode_result import EpisodeResult
from synthfm_env.errors import InputError
from synthfm_env.geometry import bounding_box
from synthfm_env.prompts import Click
from synthfm_env.segmenters import Seconds, Segmenter, Session
from synthfm_env.volumes import Volume, to_uint8
from synthfm_env.volumes.dicom_seg import DICOM_SERIES

COMPARED_WITH = ("ritm-3d-v1", "synthfm-mm-v1")
"""Click protocols whose curves are shown with the person's."""


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """Answer to the page after a step.

    Attributes:
        facts: values for the page, of JSON types.
        spans: box of the changed voxels, as half-open intervals (z, y, x); None if no voxel changed.
        voxels: uint8, the mask in that box.
    """

    facts: dict[str, Any]
    spans: list[list[int]] | None
    voxels: NDArray[np.uint8] | None


class Game(ABC):
    """Structures that a person segments, one after the other.

    Attributes:
        title: of the page.
        volume: of the present structure.
        structure: name of the present structure.
        mask: bool (D, H, W), the segmenter's present answer.
    """

    title: str
    volume: Volume | None = None
    structure: str = ""
    mask: NDArray[np.bool_]

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return the values that the page shows first; ``tasks`` is a list of name, case and done."""

    @abstractmethod
    def open(self, index: int) -> dict[str, Any]:
        """Begin a structure.

        Raises:
            InputError: the index does not exist, or the structure was finished before.
        """

    @abstractmethod
    def click(self, click: Click, thought: Thought) -> Answer:
        """Place a click."""

    @abstractmethod
    def undo(self, thought: Thought) -> Answer:
        """Take back the newest click."""

    @abstractmethod
    def finish(self, thought: Thought) -> Answer:
        """End the structure."""

    @abstractmethod
    def target(self) -> NDArray[np.bool_]:
        """Return the truth, if the page may show it.

        Raises:
            InputError: the page may not show it.
        """

    @abstractmethod
    def curves(self) -> dict[str, list[float]]:
        """Return Dice after each click, by clicker.

        Raises:
            InputError: the structure has not ended, or has no truth.
        """

    @abstractmethod
    def end(self) -> dict[str, Any]:
        """End the game and return its result."""

    @abstractmethod
    def close(self) -> None:
        """Free the memory of the game."""

    def _show(self, mask: NDArray[np.bool_], facts: dict[str, Any]) -> Answer:
        """Return the answer with the voxels that differ from the mask shown before."""
        before, self.mask = self.mask, mask
        box = bounding_box(before != mask)
        if box is None:
            return Answer(facts, None, None)
        spans = [[side.start, side.stop] for side in box]
        return Answer(facts, spans, np.ascontiguousarray(mask[box]).view(np.uint8))


class SuiteGame(Game):
    """Plays the tasks of a suite and records every click.

    Args:
        run: gets the records.
    """

    def __init__(self, run: PersonRun) -> None:
        self._run = run
        self._player = PersonPlayer(run.suite, run.about["run_id"])
        self._specs: Sequence[EpisodeSpec] = run.plan.specs
        self._done = run.episodes
        self._now: tuple[EpisodeSpec, PersonEpisode] | None = None
        self._curves: dict[str, list[float]] | None = None
        person = make_clicker(run.suite.clickers[0].use, **run.suite.clickers[0].params)
        assert isinstance(person, Person)
        self._target = person.target
        self.title = run.suite.name

    def describe(self) -> dict[str, Any]:
        """Return the tasks, each with whether it is done."""
        return {
            "title": self.title,
            "description": self._run.suite.description,
            "who": self._run.suite.clickers[0].label,
            "segmenter": self._run.suite.segmenters[0].label,
            "folder": str(self._run.folder),
            "clicks": self._run.suite.clicks,
            "target": self._target,
            "records": True,
            "dicom": False,
            "tasks": [
                {
                    "name": "" if spec.structure is None else str(spec.structure),
                    "case": spec.case.image_id,
                    "done": spec.episode_id in self._done,
                }
                for spec in self._specs
            ],
        }

    def open(self, index: int) -> dict[str, Any]:
        """Begin a task; an unfinished one begins again."""
        if not 0 <= index < len(self._specs):
            raise InputError(f"task {index}: expected 0 to {len(self._specs) - 1}")
        spec = self._specs[index]
        if spec.episode_id in self._done:
            raise InputError(f"task {index} was finished before; take another")
        episode = self._player.open(spec)
        self._now, self._curves = (spec, episode), None
        self.volume = self._player.volume(episode)
        self.structure, self.mask = episode.structure, episode.mask
        return {
            "task": index,
            "structure": self.structure,
            "case": spec.case.image_id,
            "modality": self.volume.modality,
            "shape": list(self.mask.shape),
            "spacing": list(self.volume.spacing),
            "clicks": self._run.suite.clicks,
            "target": self._target,
        }

    def click(self, click: Click, thought: Thought) -> Answer:
        """Place a click and record it."""
        episode = self._running()
        episode.click(click, thought)
        return self._recorded(episode)

    def undo(self, thought: Thought) -> Answer:
        """Take back a click and record that; it counts as a click."""
        episode = self._running()
        if not self._clicks_in_force(episode):
            raise InputError("there is no click to undo")
        episode.undo(thought)
        return self._recorded(episode)

    def finish(self, thought: Thought) -> Answer:
        """End the task before the last click."""
        episode = self._running()
        episode.stop(thought)
        return self._recorded(episode)

    @property
    def episode(self) -> PersonEpisode:
        """The episode opened last."""
        return self._opened()[1]

    def target(self) -> NDArray[np.bool_]:
        """Return the truth: always with the target "outline", before the first click with "glimpse", and at the end."""
        _, episode = self._opened()
        glimpse = self._target == "glimpse" and not episode.records
        if not (self._target == "outline" or glimpse or episode.ended):
            raise InputError("the target is shown by name until the structure is finished")
        return episode.truth

    def curves(self) -> dict[str, list[float]]:
        """Return the Dice of the person, and of click protocols on the same case with the same segmenter."""
        spec, episode = self._opened()
        if not episode.ended:
            raise InputError("curves are shown once the structure is finished")
        if self._curves is None:
            own = EpisodeResult(tuple(episode.records)).dice.tolist()
            env = self._player.env
            self._curves = {self._run.suite.clickers[0].label: own} | {
                name: _curve(env, name, episode.records[0].seed, spec) for name in COMPARED_WITH
            }
        return self._curves

    def end(self) -> dict[str, Any]:
        """Write the board of the finished tasks."""
        if not self._done:
            raise InputError("no structure was finished, and a board needs one; finish one first")
        finished = self._run.finish()
        left = len(self._specs) - len(self._done)
        return {
            "folder": str(finished.folder),
            "results_hash": finished.results_hash,
            "left": left,
            "dice": {name: float(episode.dice[-1]) for name, episode in self._done.items()},
        }

    def close(self) -> None:
        """Close the env."""
        self._player.close()

    def _recorded(self, episode: PersonEpisode) -> Answer:
        """Return the answer to the newest record, and save the episode if it ended."""
        record = episode.records[-1]
        if record.ended:
            spec, _ = self._opened()
            whole = EpisodeResult(tuple(episode.records))
            self._run.append(whole)
            self._done[spec.episode_id] = whole
        shows_dice = self._target == "outline" or record.ended
        facts = {
            "step": record.step,
            "left": record.max_clicks - record.step,
            "ended": record.ended,
            "outcome": record.outcome,
            "in_force": self._clicks_in_force(episode),
            "dice": record.dice if shows_dice else None,
            "encode_s": record.t_encode_s,
            "predict_s": record.t_predict_s,
            "voxels": int(np.count_nonzero(episode.mask)),
            "error": record.error,
        }
        return self._show(episode.mask, facts)

    def _clicks_in_force(self, episode: PersonEpisode) -> int:
        placed = sum(record.point_zyx is not None for record in episode.records)
        return placed - sum(record.undone for record in episode.records)

    def _opened(self) -> tuple[EpisodeSpec, PersonEpisode]:
        if self._now is None:
            raise InputError("no structure is open; open one first")
        return self._now

    def _running(self) -> PersonEpisode:
        _, episode = self._opened()
        if episode.ended:
            raise InputError("this structure is finished; open the next one")
        return episode


class FreeGame(Game):
    """Segments one image without a truth: masks can be saved, nothing is scored or recorded.

    Args:
        volume: the image.
        segmenter: answers the clicks.
    """

    def __init__(self, volume: Volume, segmenter: Segmenter) -> None:
        self.title = volume.case_id
        self.volume = volume
        self._segmenter = segmenter
        self._image = to_uint8(volume.image, volume.modality)
        self._session: Session | None = None
        self._ended = True

    def describe(self) -> dict[str, Any]:
        """Return one task, which can be repeated."""
        return {
            "title": self.title,
            "description": "one image of your own; masks are saved by the button, nothing is recorded",
            "who": "you",
            "segmenter": self._segmenter.name,
            "folder": None,
            "clicks": None,
            "target": "free",
            "records": False,
            "dicom": self.volume is not None and DICOM_SERIES in self.volume.metadata,
            "tasks": [{"name": "a structure of your choice", "case": self.title, "done": False}],
        }

    def open(self, index: int) -> dict[str, Any]:
        """Begin a structure."""
        assert self.volume is not None, "set from the start"
        if index != 0:
            raise InputError(f"task {index}: expected 0, the only task")
        if self._session is None:
            self._session = self._segmenter.start(self._image, self.volume.spacing)
        self._session.reset()
        self._ended = False
        self.mask = np.zeros(self._image.shape, dtype=bool)
        self.structure = "structure"
        return {
            "task": 0,
            "structure": "a structure of your choice",
            "case": self.title,
            "modality": self.volume.modality,
            "shape": list(self.mask.shape),
            "spacing": list(self.volume.spacing),
            "clicks": None,
            "target": "free",
        }

    def click(self, click: Click, thought: Thought) -> Answer:
        """Place a click."""
        session = self._running()
        answer = session.add(click)
        return self._answer(session, answer.mask, answer.seconds)

    def undo(self, thought: Thought) -> Answer:
        """Take back the newest click."""
        session = self._running()
        answer = session.undo()
        return self._answer(session, answer.mask, answer.seconds)

    def finish(self, thought: Thought) -> Answer:
        """End the structure; its mask can still be saved."""
        session = self._running()
        self._ended = True
        return self._answer(session, self.mask, None)

    def target(self) -> NDArray[np.bool_]:
        """Raise InputError: there is no truth."""
        raise InputError("this image has no label, so there is no target to show")

    def curves(self) -> dict[str, list[float]]:
        """Raise InputError: there is no truth."""
        raise InputError("this image has no label, so there is no Dice; give one with --label")

    def end(self) -> dict[str, Any]:
        """Return an empty result."""
        return {"folder": None, "results_hash": None, "left": 0, "dice": {}}

    def close(self) -> None:
        """Close the session."""
        if self._session is not None:
            self._session.close()

    def _running(self) -> Session:
        if self._session is None or self._ended:
            raise InputError("no structure is open; open one first")
        return self._session

    def _answer(self, session: Session, mask: NDArray[np.bool_], seconds: Seconds | None) -> Answer:
        facts = {
            "step": len(session.clicks),
            "left": None,
            "ended": self._ended,
            "outcome": "stopped" if self._ended else "running",
            "in_force": len(session.clicks),
            "dice": None,
            "encode_s": seconds.encode if seconds else None,
            "predict_s": seconds.predict if seconds else None,
            "voxels": int(np.count_nonzero(mask)),
            "error": None,
        }
        return self._show(mask, facts)


def _curve(env: gym.Env[Any, Any], name: str, seed: int, spec: EpisodeSpec) -> list[float]:
    """Play a protocol on the structure of an open task and return its Dice after each click."""
    clicker = make_clicker(name)
    options = None if spec.structure is None else {"structure": spec.structure}
    observation, info = env.reset(seed=seed, options=options)
    clicker.reset(seed)
    dice: list[float] = []
    ended = False
    while not ended:
        observation, _, terminated, truncated, info = env.step(clicker.act(observation, info))
        dice.append(float(info["dice"]))
        ended = terminated or truncated
    return dice
