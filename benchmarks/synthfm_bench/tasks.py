"""From a suite to the list of what is to be played, with all that a user can get wrong checked first."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from synthfm_agents import make_clicker
from synthfm_bench.provenance import device_of, weights_sha256
from synthfm_bench.suite import Data, FileData, Suite, SyntheticData
from synthfm_env.errors import InputError, unknown_name
from synthfm_env.segmenters import Segmenter, make_segmenter
from synthfm_env.volumes import Volume, bundled_volume, load_volume

VOLUME_ENV = "SynthFM/Volume-v0"


@dataclass(frozen=True, slots=True)
class Task:
    """One structure of one case with one segmenter; every clicker plays it in turn.

    Attributes:
        data: the group of the suite it belongs to.
        case_id: the unit of statistics.
        seed: the env's reset seed.
        structure: label id, or None where the env draws it from the seed.
        model: name of the segmenter.
    """

    data: Data
    case_id: str
    seed: int
    structure: int | None
    model: str

    def episode_id(self, clicker: str) -> str:
        """Return the name of the episode that a clicker plays; the same in every run of the suite."""
        structure = () if self.structure is None else (str(self.structure),)
        return "/".join((self.data.name, self.case_id, *structure, self.model, clicker))


def derive_seed(*parts: int | str) -> int:
    """Return a seed below 2**31 that follows from the parts alone."""
    return int.from_bytes(hashlib.sha256("\n".join(map(str, parts)).encode()).digest()[:4]) >> 1


def clicker_seed(suite: Suite, task: Task, clicker: str) -> int:
    """Return a clicker's seed in an episode, the same for every segmenter: all meet the same draws."""
    return derive_seed(suite.seed, task.data.name, task.case_id, str(task.structure), clicker)


def open_volume(data: Data) -> Volume:
    """Return the volume of a group that consists of one.

    Raises:
        InputError: it cannot be read, or the package that carries it is missing.
    """
    if isinstance(data, FileData):
        return load_volume(data.image, data.label, modality=data.modality)
    assert not isinstance(data, SyntheticData), "a synthetic group has no volume to open"
    return bundled_volume(data.volume)


def env_spec(data: Data, clicks: int) -> dict[str, Any]:
    """Return the id and the JSON-able arguments of the env of a group, beside segmenter and structure."""
    common = {"max_clicks": clicks, "reveal_truth": True}
    match data:
        case SyntheticData():
            return {"id": data.env, "kwargs": {"shape": list(data.shape), "recipe": data.recipe, **common}}
        case FileData():
            paths = {"image": str(data.image), "label": str(data.label), "modality": data.modality}
            return {"id": VOLUME_ENV, "kwargs": {**paths, **common}}
        case _:
            return {"id": VOLUME_ENV, "kwargs": {"image": {"bundled": data.volume}, **common}}


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run plays.

    Attributes:
        tasks: segmenter by segmenter within a group.
        notes: on groups that were left out, and why.
        models: of each segmenter, the hash of its weights and where it runs.
        oracles: of each clicker, whether it sees the truth.
    """

    tasks: tuple[Task, ...]
    notes: tuple[str, ...]
    models: dict[str, dict[str, str | None]]
    oracles: dict[str, bool]


def make_plan(suite: Suite) -> Plan:
    """Return what a suite plays on this machine.

    Every segmenter and clicker is built once and every volume is read, so that a mistake shows before
    anything is played or written.

    Raises:
        InputError: an unknown segmenter, clicker, env, recipe or structure; a volume that cannot be read;
            nothing left to play.
    """
    oracles = {name: make_clicker(name).oracle for name in suite.clickers}
    segmenters = {name: make_segmenter(name) for name in suite.segmenters}
    tasks: list[Task] = []
    notes: list[str] = []
    for data in suite.data:
        if isinstance(data, SyntheticData):
            _check_env(data, segmenters[suite.segmenters[0]])
            seeds = [derive_seed(suite.seed, data.name, index) for index in range(data.cases)]
            cases: list[tuple[str, int, int | None]] = [(f"seed-{seed}", seed, None) for seed in seeds]
        else:
            try:
                volume = open_volume(data)
            except InputError as error:
                if not isinstance(error.__cause__, ImportError):
                    raise
                notes.append(f"{data.name} is left out: {error}")
                continue
            cases = [(volume.case_id, suite.seed, key) for key in _label_ids(volume, data.structures)]
        tasks += [Task(data, *case, model=model) for model in suite.segmenters for case in cases]
    if not tasks:
        raise InputError(f"suite {suite.name}: nothing is left to play; {'; '.join(notes)}")
    models = {
        name: {"weights_sha256": weights_sha256(segmenter), "device": device_of(segmenter)}
        for name, segmenter in segmenters.items()
    }
    return Plan(tuple(tasks), tuple(notes), models, oracles)


def _check_env(data: SyntheticData, segmenter: Segmenter) -> None:
    known = [env_id for env_id in gym.registry if env_id.startswith("SynthFM/") and env_id != VOLUME_ENV]
    if data.env not in known:
        raise unknown_name("synthetic env", data.env, known)
    gym.make(data.env, shape=data.shape, recipe=data.recipe, segmenter=segmenter).close()


def _label_ids(volume: Volume, structures: Sequence[int | str]) -> list[int]:
    """Return the label ids that are asked for, all of them where nothing is asked for, each once."""
    if volume.label is None:
        raise InputError(f"{volume.case_id}: has no label, so no click can be judged; give one")
    names = {name: key for key, name in volume.structures.items()}
    for structure in structures:
        volume.truth(structure)
    ids = [names[str(s)] if str(s) in names else int(s) for s in structures]
    return list(dict.fromkeys(ids)) or [int(i) for i in np.unique(volume.label) if i]
