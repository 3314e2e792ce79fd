"""Plans a run: turns a suite into a list of episodes, and checks all user input before anything is played."""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import gymnasium as gym
import numpy as np

from synthfm_bench.execution.foreign_calls import Who
from synthfm_bench.execution.probe import Broken, probe
from synthfm_bench.players import build_clicker, build_segmenter, describe_clicker, describe_segmenter, own_code
from synthfm_bench.results.provenance import hash_of_name
from synthfm_bench.suite import BundledData, Choice, Data, DatasetData, FileData, Split, Suite, SyntheticData
from synthfm_env.envs.start_prompt import Start
from synthfm_env.errors import InputError, unknown_name
from synthfm_env.plural import plural
from synthfm_env.printable import printable
from synthfm_env.segmenters import Segmenter
from synthfm_env.segmenters.geodesic import Geodesic
from synthfm_env.volumes import Volume, bundled_volume, load_volume
from synthfm_env.volumes.datasets import Item, get_layout, wanted_ids
from synthfm_env.volumes.datasets.split import train_test_split
from synthfm_env.volumes.slices import clips_with, slice_of, slices_with

VOLUME_ENV = "SynthFM/Volume-v0"
SHOWN = 3  # reasons in a note
MOST_ID = 2_000  # characters of an episode's id

T = TypeVar("T")
Reading = Callable[[str], None]
"""Called with the name of each image before it is read."""


@dataclass(frozen=True, slots=True)
class Case:
    """One image of a group, or one slice of it.

    Attributes:
        data: its group in the suite.
        case_id: the patient, the unit of statistics.
        image_id: differs from ``case_id`` if a patient has several images.
        seed: for the reset of the env.
        structures: label ids to play; None if the env draws one from the seed.
        item: its files in a data set, or None.
        z: the slice of the image that is played, or the first slice of the clip; None for the whole image.
    """

    data: Data
    case_id: str
    image_id: str
    seed: int
    structures: tuple[int | None, ...]
    item: Item | None = None
    z: int | None = None

    @property
    def whole_id(self) -> str:
        """The id of the whole image."""
        return self.image_id if self.z is None else self.image_id.removesuffix(_slice_mark(self.z))

    @property
    def clip_slices(self) -> int | None:
        """Number of slices that are played, None for the whole image."""
        if self.z is None or isinstance(self.data, SyntheticData):
            return None
        return self.data.clip_slices or 1


SLICE_MARK = re.compile(r"@z(\d+)$")
"""Ending of an image's id if it is one slice of another image, or a clip that begins with that slice."""


def _slice_mark(z: int) -> str:
    return f"@z{z:03d}"


@dataclass(frozen=True, slots=True)
class EpisodeSpec:
    """An episode to play: one structure of a case with one segmenter and one clicker.

    Attributes:
        case: the image.
        structure: label id, or None if the env draws it from the seed.
        model: the segmenter.
        clicker: the clicker.
    """

    case: Case
    structure: int | None
    model: Choice
    clicker: Choice

    @property
    def episode_id(self) -> str:
        """Id of the episode, the same in every run of the suite."""
        structure = () if self.structure is None else (str(self.structure),)
        parts = (self.case.data.name, self.case.image_id, *structure, self.model.label, self.clicker.label)
        return printable("/".join(parts), MOST_ID)

    def clicker_seed(self, suite: Suite) -> int:
        """Return the clicker's seed, which is the same for every segmenter."""
        where = (self.case.data.name, self.case.image_id, str(self.structure))
        return derive_seed(suite.seed, *where, self.clicker.use)


@dataclass(frozen=True, slots=True)
class Job:
    """Episodes that share an image and a segmenter, so that the image is encoded once."""

    specs: tuple[EpisodeSpec, ...]


def derive_seed(*parts: int | str) -> int:
    """Return a seed below 2**31 that follows from the parts alone."""
    return int.from_bytes(hashlib.sha256("\n".join(map(str, parts)).encode()).digest()[:4]) >> 1


def evenly(things: Sequence[T], count: int | None) -> list[T]:
    """Return ``count`` of the things at equal distances, with the first and the last; all for None."""
    if count is None or count >= len(things):
        return list(things)
    return [things[i] for i in np.linspace(0, len(things) - 1, count).round().astype(int)]


def open_volume(case: Case) -> Volume:
    """Read the volume of a case that is not synthetic, or the slice or clip of it that the case plays.

    Raises:
        InputError: it cannot be read, or the package that contains it is missing.
    """
    return part_of(read_volume(case), case)


def part_of(volume: Volume, case: Case) -> Volume:
    """Return the slice or clip of a volume that a case plays, or the whole volume."""
    return volume if case.z is None else slice_of(volume, case.z, case.clip_slices or 1)


def read_volume(case: Case) -> Volume:
    """Read the whole volume of a case that is not synthetic; see ``open_volume``."""
    match case.data:
        case DatasetData():
            assert case.item is not None, "a case of a data set has files"
            return get_layout(case.data.layout).load(case.item, case.data.structures)
        case FileData():
            return load_volume(case.data.image, case.data.label, modality=case.data.modality)
        case BundledData():
            return bundled_volume(case.data.volume)
        case _:
            raise AssertionError("a synthetic case has no volume to open")


def env_spec(suite: Suite, data: Data, case: Case | None = None) -> dict[str, Any]:
    """Return the id and the arguments of a group's env, as JSON types, without segmenter and structure.

    ``gym.make(spec["id"], **spec["kwargs"])`` makes it, with the image of ``case`` or the group's first one.

    Raises:
        InputError: the synthetic env is unknown.
    """
    common = {"max_clicks": suite.clicks, "reveal_truth": True, **suite.start_options}
    match data:
        case SyntheticData():
            # Gymnasium imports the module named in an id, so only ids of this package are passed on.
            known = [env_id for env_id in gym.registry if env_id.startswith("SynthFM/") and env_id != VOLUME_ENV]
            if data.env not in known:
                raise unknown_name("synthetic env", data.env, known)
            return {"id": data.env, "kwargs": {"shape": list(data.shape), "recipe": data.recipe, **common}}
        case FileData():
            image: dict[str, Any] = {"image": str(data.image), "label": str(data.label), "modality": data.modality}
        case BundledData():
            image = {"bundled": data.volume}
        case DatasetData():
            image = {"layout": data.layout, "path": str(data.path), "part": data.part}
            image |= {"structures": list(data.structures)}
            image |= {} if case is None or case.item is None else {"image_id": case.item.image_id}
    if case is not None and case.z is not None:
        image |= {"slice": case.z}
        image |= {} if case.clip_slices == 1 else {"slices": case.clip_slices}
    return {"id": VOLUME_ENV, "kwargs": {"image": image, **common}}


@dataclass(frozen=True, slots=True)
class Plan:
    """The episodes of a run, with its segmenters and clickers.

    Attributes:
        jobs: in playing order: by group, then by segmenter.
        notes: lines on groups, images and structures that are left out, with the reasons.
        models: description of each segmenter: arguments, hash of its weights, device.
        clickers: description of each clicker: arguments, hash, whether it sees the truth.
        left_out: images that could not be read, each with the reason.
        broken: the user's own segmenters and clickers that could not be built, by kind and label.
    """

    jobs: tuple[Job, ...]
    notes: tuple[str, ...]
    models: dict[str, dict[str, Any]]
    clickers: dict[str, dict[str, Any]]
    left_out: tuple[dict[str, str], ...] = ()
    broken: Mapping[tuple[Who, str], Broken] = field(default_factory=dict)

    @property
    def specs(self) -> list[EpisodeSpec]:
        """All episodes."""
        return [spec for job in self.jobs for spec in job.specs]

    def without(self, played: Iterable[str]) -> "Plan":
        """Return the plan without episodes that were played.

        Raises:
            InputError: an id is not in the plan.
        """
        done = set(played)
        unknown = sorted(done - {spec.episode_id for spec in self.specs})
        if unknown:
            raise InputError(
                f"the run holds {len(unknown)} episodes that its suite no longer contains, for example {unknown[0]}: "
                "its data or this program changed since; start a new run"
            )
        jobs = (Job(tuple(spec for spec in job.specs if spec.episode_id not in done)) for job in self.jobs)
        return replace(self, jobs=tuple(job for job in jobs if job.specs))


@dataclass(slots=True)
class _Found:
    """Cases and notes of the data that were read so far."""

    cases: list[Case] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    left_out: list[dict[str, str]] = field(default_factory=list)


def make_plan(suite: Suite, reading: Reading = lambda name: None) -> Plan:
    """Plan the episodes of a suite on this machine.

    Every segmenter and clicker is built once and every volume is read, so that mistakes show before anything is played
    or written. The user's own code is built in a separate process. If that fails, its episodes will fail and the others
    are played. A broken file among readable ones is left out and counted.

    Args:
        suite: the suite.
        reading: called with each image's name before it is read.

    Raises:
        InputError: a segmenter, clicker, parameter, env, recipe, layout or structure is unknown; the only volume of a
            group cannot be read; or nothing is left to play.

    Example:
        >>> from synthfm_bench.suite import load_suite, with_choices
        >>> len(make_plan(load_suite("synthetic-2d")).jobs) > 0
        True
    """
    broken: dict[tuple[Who, str], Broken] = {}
    models, stand_in = _segmenters(suite, broken)
    clickers = _clickers(suite, stand_in, broken)
    found = _Found()
    for data in suite.data:
        _CASES[data.kind](suite, data, found, stand_in, reading)
    if not found.cases:
        first, *others = found.notes or ["it has no data"]
        more = f"; {plural(len(others), 'more note')} of this kind" if others else ""
        raise InputError(f"suite {suite.name}: nothing is left to play; {first}{more}")
    for (who, label), why in broken.items():
        found.notes.append(f"{who} {label} could not be built, so all its episodes fail: {why.error}")
    jobs = tuple(_jobs(suite, found.cases))
    twice = [one for one, times in Counter(spec.episode_id for job in jobs for spec in job.specs).items() if times > 1]
    if twice:
        raise InputError(
            f"suite {suite.name}: two episodes have the id {twice[0]}; give groups, images, segmenters and clickers "
            "different names"
        )
    return Plan(jobs, tuple(found.notes), models, clickers, tuple(found.left_out), broken)


def _segmenters(suite: Suite, broken: dict[tuple[Who, str], Broken]) -> tuple[dict[str, dict[str, Any]], Segmenter]:
    """Describe the segmenters of a suite; also return one of this package, with which the plan's envs are tried."""
    models: dict[str, dict[str, Any]] = {}
    stand_in: Segmenter = Geodesic()
    for choice in suite.segmenters:
        if not own_code(choice):
            stand_in = build_segmenter(choice)
            Start(suite.start, suite.start_protocol, suite.start_dice).check(stand_in)
            models[choice.label] = describe_segmenter(choice, stand_in)
            continue
        answer = probe("segmenter", choice, suite.time_limit_s, suite.memory_limit_mib)
        if isinstance(answer, Broken):
            broken["segmenter", choice.label] = answer
            answer = {"use": choice.use, "params": choice.params, "weights_sha256": None, "device": "unknown"}
        models[choice.label] = answer
    return models, stand_in


def _clickers(suite: Suite, segmenter: Segmenter, broken: dict[tuple[Who, str], Broken]) -> dict[str, dict[str, Any]]:
    """Describe the clickers of a suite; see ``_segmenters``."""
    about: dict[str, dict[str, Any]] = {}
    for choice in suite.clickers:
        if not own_code(choice):
            about[choice.label] = describe_clicker(choice, build_clicker(choice, segmenter))
            continue
        answer = probe("clicker", choice, suite.time_limit_s, suite.memory_limit_mib)
        if isinstance(answer, Broken):
            broken["clicker", choice.label] = answer
            digest = hash_of_name(choice.use, choice.params)
            answer = {"use": choice.use, "params": choice.params, "protocol_hash": digest, "oracle": False}
        about[choice.label] = answer
    return about


def _jobs(suite: Suite, cases: Sequence[Case]) -> Iterator[Job]:
    """Yield the jobs: by data group, then by segmenter, then by case."""
    for data in suite.data:
        for model in suite.segmenters:
            for case in cases:
                if case.data is data:
                    yield Job(
                        tuple(
                            EpisodeSpec(case, s, model, clicker) for s in case.structures for clicker in suite.clickers
                        )
                    )


def _synthetic(suite: Suite, data: Data, found: _Found, segmenter: Segmenter, reading: Reading) -> None:
    """Add the cases of a synthetic group to the plan, by their seeds."""
    assert isinstance(data, SyntheticData)
    registered = env_spec(suite, data)
    gym.make(registered["id"], segmenter=segmenter, **registered["kwargs"]).close()
    for index in range(data.cases):
        seed = derive_seed(suite.seed, data.name, index)
        found.cases.append(Case(data, f"seed-{seed}", f"seed-{seed}", seed, (None,)))


def _one_volume(suite: Suite, data: Data, found: _Found, segmenter: Segmenter, reading: Reading) -> None:
    """Add the case of a packaged volume or of two files to the plan."""
    assert isinstance(data, BundledData | FileData)
    reading(data.name)
    case = Case(data, data.name, data.name, suite.seed, ())
    try:
        volume = open_volume(case)
    except InputError as error:
        if not isinstance(error.__cause__, ImportError):
            raise
        found.notes.append(f"{data.name} is left out: {error}")
        return
    for structure in data.structures:
        volume.truth(structure)
    ids = _present(volume)
    wanted = wanted_ids(data.structures, volume.structures) if data.structures else ids
    name = printable(volume.case_id)
    case = replace(case, case_id=name, image_id=name, structures=tuple(wanted))
    found.cases += _parts(case, volume)


def _dataset(suite: Suite, data: Data, found: _Found, segmenter: Segmenter, reading: Reading) -> None:
    """Add the cases of a data set to the plan, and count the images that are left out."""
    assert isinstance(data, DatasetData)
    # Names in the suite must be the layout's.
    layout = get_layout(data.layout)
    if layout.structures:
        wanted_ids(data.structures, layout.structures)
    if layout.parts and data.part not in layout.parts:
        raise unknown_name(f"part of layout {data.layout!r}", data.part or "", layout.parts)
    try:
        items = layout.items(data.path, data.part)
    except InputError as error:
        found.notes.append(f"{data.name} is left out: {error}")
        return
    # Images without their files.
    tally = _Tally(data, missing=layout.unpaired(data.path, data.part or ""))
    for path in tally.missing:
        found.left_out.append({"data": data.name, "image": path.name, "why": f"{path}: no such file"})
    # Read every image that the suite chooses; note those that cannot be played.
    before = len(found.cases)
    for item in _some(_of_split(items, data.split), data.cases, data.images):
        reading(f"{data.name} {item.image_id}")
        case = Case(data, printable(item.case_id), printable(item.image_id), suite.seed, (), item)
        try:
            volume = open_volume(case)
        except InputError as error:
            if isinstance(error.__cause__, ImportError):
                raise
            tally.broken.append(str(error))
            found.left_out.append({"data": data.name, "image": item.image_id, "why": str(error)})
            continue
        for name, why in volume.metadata.get("left_out", {}).items():
            tally.unread[name].append(why)
            found.left_out.append({"data": data.name, "image": item.image_id, "structure": name, "why": why})
        found.cases += _cases_of(case, volume, layout.structures or volume.structures, tally)
    if len(found.cases) == before and not tally.broken:
        wanted = ", ".join(map(str, data.structures)) or "a structure"
        found.notes.append(f"{data.name} is left out: no image holds {wanted}")
    found.notes += tally.notes()


@dataclass(slots=True)
class _Tally:
    """Counts the images and structures of a data set that cannot be played.

    Attributes:
        data: the group.
        missing: missing files of images that are left out.
        broken: a reason for each image that could not be read.
        unread: for each structure, a reason for each image in which it could not be read.
        lacking: for each structure, the number of images without it.
        small: for each structure, the number of images in which no slice has enough of its pixels.
    """

    data: DatasetData
    missing: list[Path] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    unread: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    lacking: Counter[str] = field(default_factory=Counter)
    small: Counter[str] = field(default_factory=Counter)

    def notes(self) -> Iterator[str]:
        """Yield a line for each kind of loss."""
        name, pixels = self.data.name, self.data.slice_pixels
        if self.missing:
            files = _first([str(path) for path in self.missing])
            yield f"{plural(len(self.missing), 'image')} of {name} left out, a file is missing: {files}"
        if self.broken:
            yield f"{plural(len(self.broken), 'image')} of {name} left out, not readable: {_first(self.broken)}"
        for structure, reasons in sorted(self.unread.items()):
            yield f"{name}: {structure} of {plural(len(reasons), 'image')} left out, not readable: {_first(reasons)}"
        for structure, times in sorted(self.small.items()):
            images = plural(times, "image")
            yield f"{name}: {structure} has {pixels} pixels in no slice of {images}, which count without it"
        for structure, times in sorted(self.lacking.items()):
            yield f"{name}: {structure} is not in {plural(times, 'image')}, which count without it"


def _first(reasons: Sequence[str]) -> str:
    return "; ".join(reasons[:SHOWN]) + ("; ..." if len(reasons) > SHOWN else "")


def _cases_of(case: Case, volume: Volume, names: Mapping[int, str], tally: _Tally) -> list[Case]:
    """Return the cases of one image: the image, its slices, or none.

    Raises:
        InputError: a structure is unknown, or slices are asked of an image of one slice.
    """
    data = tally.data
    present = _present(volume)
    try:
        wanted = wanted_ids(data.structures, names) if data.structures else present
    except InputError as error:
        raise InputError(f"{data.name}: {error}") from None
    absent = [names.get(key, str(key)) for key in wanted if key not in present]
    tally.lacking.update(name for name in absent if name not in tally.unread)
    structures = tuple(key for key in wanted if key in present)
    if not structures:
        return []
    parts = _parts(replace(case, structures=structures), volume)
    played = {key for part in parts for key in part.structures}
    tally.small.update(names.get(key, str(key)) for key in structures if key not in played)
    return parts


_CASES: dict[str, Callable[[Suite, Data, _Found, Segmenter, Reading], None]] = {
    "synthetic": _synthetic,
    "bundled": _one_volume,
    "files": _one_volume,
    "dataset": _dataset,
}


def _of_split(items: Sequence[Item], split: Split | None) -> list[Item]:
    """Return the images of the patients on one side of a split; all images for None."""
    if split is None:
        return list(items)
    train, test = train_test_split(items, split.train, split.seed)
    return train if split.side == "train" else test


def _some(items: Sequence[Item], cases: int | None, images: int | None) -> list[Item]:
    """Choose patients and images of each patient at equal distances; None chooses all."""
    patients: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        patients[item.case_id].append(item)
    return [item for patient in evenly(list(patients), cases) for item in evenly(patients[patient], images)]


def _parts(case: Case, volume: Volume) -> list[Case]:
    """Return the case itself, or a case for each slice or clip of its volume with enough pixels of a structure.

    Raises:
        InputError: slices are asked of an image of one slice.
    """
    data = case.data
    assert not isinstance(data, SyntheticData)
    if data.slices is None:
        return [case]
    if len(volume.image) == 1:
        raise InputError(
            f'{data.name}: slices = "{data.slices}" needs volumes, but {case.image_id} is an image of one slice; leave '
            "slices out"
        )
    assert volume.label is not None, "the structures are from it"
    of_slices: dict[int, list[int | None]] = defaultdict(list)
    for key in case.structures:
        truth = volume.label == key
        if data.clip_slices is None:
            counting = slices_with(truth, data.slices, data.slice_pixels, data.most_slices)
        else:
            counting = clips_with(truth, data.clip_slices, data.slice_pixels)
        for z in counting:
            of_slices[z].append(key)
    return [
        replace(case, image_id=case.image_id + _slice_mark(z), structures=tuple(of_slices[z]), z=z)
        for z in sorted(of_slices)
    ]


def _present(volume: Volume) -> list[int]:
    """Return the label ids in a volume."""
    if volume.label is None:
        raise InputError(f"{volume.case_id}: has no label, so masks cannot be scored; give one")
    return [int(i) for i in np.unique(volume.label) if i]
