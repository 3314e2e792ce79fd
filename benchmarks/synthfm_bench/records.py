"""One line per click: what was played, and what came of it. Board and hash come from these lines alone."""

import contextlib
import hashlib
import io
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from synthfm_bench.folder import write_text
from synthfm_env.errors import InputError
from synthfm_env.metrics import clicks_to_target, normalised_auc, worst_drop

SCHEMA = 2
FAILURES = ("no_valid_click", "model_error", "timeout", "invalid_prompt")
"""Outcomes that count as failures. ``no_error``, a clicker that finds nothing left to correct, does not."""

NOT_RESULTS = frozenset(
    ("run_id", "device", "error", "t_click_s", "t_encode_s", "t_predict_s", "peak_memory_mib", "peak_gpu_mib")
)
"""Fields that differ between two runs of the same thing; ``results_hash`` leaves them out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """One click of one episode and its score, or the way in which the episode ended.

    Attributes:
        schema: version of these fields.
        run_id: the run that wrote it.
        episode_id: data group, case, structure, model and clicker; the same in every run of a suite.
        env_id: the registered env.
        data_id: group of the board.
        case_id: the unit of statistics.
        image_id: names the image where a patient has several, else as ``case_id``.
        structure: what was to be segmented.
        modality: of the volume.
        shape_zyx: grid of the volume in voxels, (z, y, x); None where the volume was never opened.
        spacing_zyx: voxel size in mm, (z, y, x); None as above.
        truth_vox: voxels of the structure; None as above.
        image_sha256: of the 8-bit image that the segmenter was given, C order; None as above.
        seed: the env's reset seed.
        clicker_seed: the clicker's; the same for every model, so that models are compared on the same draws.
        step: 1 for the first click.
        max_clicks: budget of the episode; an episode that ends earlier keeps its last score up to there.
        clicker: its name on the board.
        protocol: the click rule's registered name, which differs from ``clicker`` where a suite names it otherwise.
        protocol_hash: SHA-256 of the rule and its parameters: equal hashes click alike.
        clicker_params: what the suite set.
        oracle: whether the clicker sees the truth.
        model: the segmenter's name on the board.
        model_params: what the suite set, and ``source`` where the board's name is another than the segmenter's.
        model_hash: of its weights, None where it has none.
        point_zyx: the clicked voxel, (z, y, x); None where no click was made.
        point_mm: the same in mm from the centre of the first voxel, (z, y, x).
        label: 1 for a positive click, 0 for a negative one, None where no click was made.
        outcome: "running" while the episode goes on, else how it ended: "max_clicks", "target_reached",
            "stopped", "no_error" (stopped because nothing was left to correct), or one of ``FAILURES``.
        dice: after this step, in [0, 1]; 0 at a failure, whatever the clicks before had reached.
        iou: as dice.
        nsd: normalised surface Dice at ``tol_mm``, as dice.
        tol_mm: the tolerance in mm.
        hd95_mm: 95th percentile of the surface distances in mm; None where mask or truth is empty, and at a failure.
        fn_vox: missed voxels, None where no mask stands.
        fp_vox: wrongly covered voxels, None where no mask stands.
        complied: whether the mask obeys the clicked voxel; None where the click was not answered.
        kept: share of all clicks so far that the mask obeys; None as above.
        mask_sha256: of the mask that stands, one byte a voxel, C order; None at a failure.
        reward: the env's.
        terminated: whether the episode ended here before its budget.
        truncated: whether the budget is used up.
        t_click_s: seconds that the clicker took.
        t_encode_s: seconds that the segmenter took for the image, paid once; None where it gave no answer.
        t_predict_s: seconds that it took for this click.
        peak_memory_mib: the most memory that the process held since the step before, in MiB.
        peak_gpu_mib: the same of the segmenter's GPU; None where it runs on none.
        device: where the segmenter ran.
        error: the message of a failure.
    """

    schema: int = SCHEMA
    run_id: str
    episode_id: str
    env_id: str
    data_id: str
    case_id: str
    image_id: str = ""
    structure: str
    modality: str
    shape_zyx: tuple[int, int, int] | None = None
    spacing_zyx: tuple[float, float, float] | None = None
    truth_vox: int | None = None
    image_sha256: str | None = None
    seed: int
    clicker_seed: int
    step: int
    max_clicks: int
    clicker: str
    protocol: str
    protocol_hash: str
    clicker_params: dict[str, Any] = field(default_factory=dict)
    oracle: bool
    model: str
    model_params: dict[str, Any] = field(default_factory=dict)
    model_hash: str | None
    point_zyx: tuple[int, int, int] | None = None
    point_mm: tuple[float, float, float] | None = None
    label: int | None = None
    outcome: str
    dice: float
    iou: float
    nsd: float
    tol_mm: float
    hd95_mm: float | None = None
    fn_vox: int | None = None
    fp_vox: int | None = None
    complied: bool | None = None
    kept: float | None = None
    mask_sha256: str | None = None
    reward: float | None = None
    terminated: bool
    truncated: bool
    t_click_s: float | None = None
    t_encode_s: float | None = None
    t_predict_s: float | None = None
    peak_memory_mib: float | None = None
    peak_gpu_mib: float | None = None
    device: str
    error: str | None = None

    @property
    def ended(self) -> bool:
        """Whether the episode ended with this step."""
        return self.terminated or self.truncated


@dataclass(frozen=True, eq=False)
class Episode:
    """One structure of one case, played by one clicker with one segmenter.

    Attributes:
        steps: its records, the first click first, the last one with its end.
    """

    steps: tuple[StepRecord, ...]

    @classmethod
    def of(cls, steps: Iterable[StepRecord]) -> "Episode":
        """Put the records of one episode in order.

        Raises:
            InputError: a step is missing or stands there twice, or the episode has no end.
        """
        ordered = tuple(sorted(steps, key=lambda record: record.step))
        ends = [record.ended for record in ordered]
        if [record.step for record in ordered] != list(range(1, len(ordered) + 1)) or not ends[-1] or any(ends[:-1]):
            raise InputError(
                f"episode {ordered[0].episode_id}: steps are missing or twice there; its run was stopped, or the file "
                "was cut or joined; `synthfm bench ... --resume` ends a run that was stopped"
            )
        return cls(ordered)

    @property
    def episode_id(self) -> str:
        """The same in every run of a suite."""
        return self.steps[0].episode_id

    @property
    def data_id(self) -> str:
        """Group of the board."""
        return self.steps[0].data_id

    @property
    def case_id(self) -> str:
        """The unit of statistics."""
        return self.steps[0].case_id

    @property
    def structure(self) -> str:
        """What was to be segmented."""
        return self.steps[-1].structure

    @property
    def modality(self) -> str:
        """Of the volume."""
        return self.steps[-1].modality

    @property
    def segmenter(self) -> str:
        """Its name on the board."""
        return self.steps[0].model

    @property
    def clicker(self) -> str:
        """Its name on the board."""
        return self.steps[0].clicker

    @property
    def oracle(self) -> bool:
        """Whether the clicker sees the truth."""
        return self.steps[0].oracle

    @property
    def protocol_hash(self) -> str:
        """Equal hashes click alike."""
        return self.steps[0].protocol_hash

    @property
    def max_clicks(self) -> int:
        """The click budget."""
        return self.steps[0].max_clicks

    @property
    def outcome(self) -> str:
        """How it ended."""
        return self.steps[-1].outcome

    @property
    def failure(self) -> str | None:
        """The kind of failure, one of ``FAILURES``, or None."""
        return self.outcome if self.outcome in FAILURES else None

    @cached_property
    def dice(self) -> NDArray[np.float64]:
        """Dice after click 1, 2, ... up to the budget, (max_clicks,); after its end an episode keeps its last score.

        The last score of a failed episode is 0.
        """
        return self._curve([record.dice for record in self.steps])

    @cached_property
    def nsd(self) -> NDArray[np.float64]:
        """The same of the normalised surface Dice, at the tolerance ``steps[0].tol_mm``."""
        return self._curve([record.nsd for record in self.steps])

    @property
    def hd95_mm(self) -> float | None:
        """HD95 of the mask at the end; None where mask or truth is empty, and after a failure."""
        return self.steps[-1].hd95_mm

    @property
    def nauc(self) -> float:
        """Normalised area under the Dice curve, in [0, 1]."""
        return normalised_auc(self.dice)

    def clicks_to(self, target: float) -> int | None:
        """Return how many clicks the Dice ``target`` took (NoC), None where it was never reached."""
        return clicks_to_target(self.dice, target)

    @property
    def worst_drop(self) -> float:
        """By how much the worst single answered click lowered Dice; a failure is no answer."""
        answered = [record.dice for record in self.steps if record.outcome not in FAILURES]
        return worst_drop(answered) if answered else 0.0

    @property
    def compliance(self) -> float | None:
        """Share of the answered clicks whose own voxel the mask obeyed at once; None where none was answered."""
        return _mean([record.complied for record in self.steps])

    @property
    def seconds_per_click(self) -> float | None:
        """Mean seconds of the segmenter for a click, encoding apart; None where none was answered."""
        return _mean([record.t_predict_s for record in self.steps])

    @property
    def encode_seconds(self) -> float | None:
        """Seconds for the image: 0 where an episode before had paid them; None where no click was answered."""
        seconds = [record.t_encode_s for record in self.steps if record.t_encode_s is not None]
        return sum(seconds) if seconds else None

    @property
    def peak_memory_mib(self) -> float | None:
        """The most memory that its process held, in MiB; None where it was not measured."""
        return max(
            (record.peak_memory_mib for record in self.steps if record.peak_memory_mib is not None), default=None
        )

    def _curve(self, scores: Sequence[float]) -> NDArray[np.float64]:
        return np.array([*scores, *[scores[-1]] * (self.max_clicks - len(scores))], dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Run:
    """A run as its folder tells it.

    Attributes:
        folder: where it lies.
        about: ``run.json``.
        episodes: in the order in which they were played.
    """

    folder: Path
    about: dict[str, Any]
    episodes: tuple[Episode, ...]

    @property
    def records(self) -> list[StepRecord]:
        """All step records."""
        return [record for episode in self.episodes for record in episode.steps]


def read_run(folder: Path) -> Run:
    """Read a run's ``run.json`` and ``steps.jsonl``.

    Raises:
        InputError: there is no run in the folder, a file is broken, or an episode lacks steps.
    """
    return Run(folder, read_about(folder), tuple(episodes_of(read_steps(folder / "steps.jsonl"))))


def read_about(folder: Path) -> dict[str, Any]:
    """Read a run's ``run.json``.

    Raises:
        InputError: it is missing or broken.
    """
    path = folder / "run.json"
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); name the folder of a run, as runs/quick-..."
        ) from None
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error}); the file was changed or cut") from None
    if not isinstance(about, dict):
        raise InputError(f"{path}: is no run's file; name the folder of a run, as runs/quick-...")
    return about


def episodes_of(records: Iterable[StepRecord]) -> list[Episode]:
    """Return the episodes that records tell of, in the order of their first records.

    Raises:
        InputError: an episode lacks a step, or has one twice.
    """
    return [Episode.of(steps) for steps in _by_episode(records).values()]


_ADAPTER = TypeAdapter(StepRecord)


def write_steps(file: TextIO, records: Iterable[StepRecord]) -> None:
    """Append records as JSON lines."""
    file.write(_lines(records))


class StepsFile:
    """``steps.jsonl`` as a run writes it: whole episodes, so that a run that is killed can go on.

    What an earlier run left of an episode is taken away when the file is opened. An append is one write: of an episode
    that a full disk cut off, nothing counts.

    Args:
        path: made where it is missing.
        read_only: look at it alone.

    Raises:
        InputError: the file holds something else than records.
        OSError: it cannot be written.
    """

    def __init__(self, path: Path, read_only: bool = False) -> None:
        self._path = path
        self.episodes: dict[str, Episode] = {}
        steps = read_steps(path) if path.is_file() else []
        for records in _by_episode(steps).values():
            with contextlib.suppress(InputError):  # one without its end is played again
                whole = Episode.of(records)
                self.episodes[whole.episode_id] = whole
        self._file: io.RawIOBase | None = None
        if not read_only:
            text = _lines(record for episode in self.episodes.values() for record in episode.steps)
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                write_text(path, text)
            self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - closed by __exit__

    def append(self, records: Iterable[StepRecord]) -> None:
        """Write one episode."""
        assert self._file is not None, "opened to be written"
        rest = memoryview(_lines(records).encode())
        while rest:  # an unbuffered write may take a part
            rest = rest[self._file.write(rest) or 0 :]

    def __enter__(self) -> "StepsFile":
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()


def read_steps(path: Path) -> list[StepRecord]:
    """Read ``steps.jsonl``. A last line without its end, as a killed run leaves it, is passed over.

    Raises:
        InputError: the file cannot be read, or another line is no step record.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected the step records of a run") from None
    lines = text.split("\n")[:-1]
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            record = _ADAPTER.validate_json(line)
        except ValidationError as error:
            where = ".".join(str(part) for part in error.errors()[0]["loc"])
            raise InputError(
                f"{path}, line {number}: no step record ({where or 'not JSON'}: {error.errors()[0]['msg']})"
            ) from None
        if record.schema != SCHEMA:
            raise InputError(f"{path}, line {number}: schema {record.schema}, this version reads schema {SCHEMA}")
        records.append(record)
    return records


def results_hash(records: Iterable[StepRecord]) -> str:
    """Return the SHA-256 over everything in the records but the run's name, timings, memory, device and error texts.

    The order of the episodes does not matter. Equal hashes: the results were reproduced.
    """
    ordered = sorted(records, key=lambda record: (record.episode_id, record.step))
    digest = hashlib.sha256()
    for record in ordered:
        kept = {key: value for key, value in asdict(record).items() if key not in NOT_RESULTS}
        digest.update(_line(kept).encode() + b"\n")
    return digest.hexdigest()


def _by_episode(records: Iterable[StepRecord]) -> dict[str, list[StepRecord]]:
    steps: dict[str, list[StepRecord]] = defaultdict(list)
    for record in records:
        steps[record.episode_id].append(record)
    return steps


def _lines(records: Iterable[StepRecord]) -> str:
    return "".join(_line(asdict(record)) + "\n" for record in records)


def _line(fields: Mapping[str, Any]) -> str:
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
