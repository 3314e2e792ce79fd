"""Defines the record of one click with its scores. All tables are computed from these records.

``as_line`` and ``parse_line`` are the only way into ``steps.jsonl`` and out of it. ``as_line`` reads back what it
wrote, so that no answer of a segmenter or clicker can make a file that cannot be read.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from synthfm_bench.suite import MOST_CLICKS
from synthfm_env.errors import InputError
from synthfm_env.printable import printable

SCHEMA = 2
FAILURES = (
    "no_valid_click",
    "model_error",
    "clicker_error",
    "timeout",
    "out_of_memory",
    "invalid_prompt",
)
"""Outcomes that count as failures. ``no_error``, a clicker that finds nothing left to correct, does not."""
OUTCOMES = ("running", "max_clicks", "target_reached", "stopped", "no_error", *FAILURES)
NOT_RESULTS = frozenset(
    (
        "run_id",
        "device",
        "error",
        "t_click_s",
        "clicker_answers",
        "t_pause_s",
        "t_encode_s",
        "t_predict_s",
        "peak_memory_mib",
        "peak_gpu_mib",
    )
)
"""Fields that differ between two runs of the same thing; ``results_hash`` leaves them out."""

_LATER: dict[str, Any] = {
    "undone": False,
    "prompt_zyxl": None,
    "start": "empty",
    "start_given": {},
    "start_score": None,
}

MOST_TEXT = 2_000
_MOST_PARAMS = 20_000  # characters of JSON
_MOST_LINE = 1 << 20  # bytes


def _plain(params: dict[str, Any]) -> dict[str, Any]:
    """Check that parameters are JSON of finite numbers and bounded size."""
    if len(json.dumps(params, allow_nan=False)) > _MOST_PARAMS:
        raise ValueError(f"parameters of more than {_MOST_PARAMS} characters")
    return params


def _known_outcome(outcome: str) -> str:
    if outcome not in OUTCOMES:
        raise ValueError(f"unknown outcome {printable(outcome, 40)!r}")
    return outcome


Text = Annotated[str, AfterValidator(lambda text: printable(text, MOST_TEXT))]
Whole = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Real = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Params = Annotated[dict[str, Any], AfterValidator(_plain)]
Outcome = Annotated[str, AfterValidator(_known_outcome)]


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
        image_id: names the image if a patient has several, else as ``case_id``.
        structure: the structure to segment.
        modality: of the volume.
        shape_zyx: grid of the volume in voxels, (z, y, x); None if the volume was never opened.
        spacing_zyx: voxel size in mm, (z, y, x); None as above.
        truth_vox: voxels of the structure; None as above.
        image_sha256: of the 8-bit image that the segmenter was given, C order; None as above.
        seed: the env's reset seed.
        clicker_seed: the clicker's; the same for every model, so that models are compared on the same draws.
        step: 1 for the first click.
        max_clicks: budget of the episode; an episode that ends earlier keeps its last score up to there.
        clicker: its name on the board.
        protocol: the click rule's registered name, which differs from ``clicker`` if a suite names it otherwise.
        protocol_hash: SHA-256 of the rule and its parameters: equal hashes click alike.
        clicker_params: what the suite set.
        oracle: whether the clicker sees the truth.
        model: the segmenter's name on the board.
        model_params: what the suite set, and ``source`` if the board's name differs from the segmenter's.
        model_hash: of its weights, None if it has none.
        point_zyx: the clicked voxel, (z, y, x); None if no click was made.
        point_mm: the same in mm from the centre of the first voxel, (z, y, x).
        label: 1 for a positive click, 0 for a negative one, None if no click was made.
        prompt_zyxl: the clicks that were given at once, rows of z, y, x and label; None if clicks came one by one.
        start: kind and rule of the prompt that the episode began with, "empty" without one.
        start_given: what that prompt was: "click" (z, y, x), "box" (start and stop, z, y, x), or "mask_sha256" and
            "mask_dice", the Dice of the mask that was given with the truth. Empty without one.
        start_score: Dice of the segmenter's answer to it; None without one.
        outcome: "running" while the episode goes on, else how it ended: "max_clicks", "target_reached",
            "stopped", "no_error" (stopped because nothing was left to correct), or one of ``FAILURES``.
        dice: after this step, in [0, 1]; 0 at a failure, whatever the clicks before had reached.
        iou: as dice.
        nsd: normalised surface Dice at ``tol_mm``, as dice.
        tol_mm: the tolerance in mm.
        hd95_mm: 95th percentile of the surface distances in mm; None if mask or truth is empty, and at a failure.
        fn_vox: missed voxels, None without a mask.
        fp_vox: wrongly covered voxels, None without a mask.
        complied: whether the mask obeys the clicked voxel; None if the click was not answered.
        kept: share of all clicks so far that the mask obeys; None as above.
        mask_sha256: of the mask, one byte a voxel, C order; None at a failure.
        reward: the env's.
        terminated: whether the episode ended here before its budget.
        truncated: whether the budget is used up.
        undone: whether this step took back the newest click; it counts as a click.
        t_click_s: seconds that the clicker took; of a person, from seeing the mask to the click, pauses left out.
        clicker_answers: answers that the clicker asked a segmenter for itself before this click; None for people.
        t_pause_s: seconds that a person paused before this click; None for other clickers.
        t_encode_s: seconds that the segmenter took for the image, paid once; None if it gave no answer.
        t_predict_s: seconds that it took for this click.
        peak_memory_mib: the most memory that the process held since the step before, in MiB.
        peak_gpu_mib: the same of the segmenter's GPU; None if it uses none.
        device: of the segmenter.
        error: the message of a failure.
    """

    schema: Whole = SCHEMA
    run_id: Text
    episode_id: Text
    env_id: Text
    data_id: Text
    case_id: Text
    image_id: Text = ""
    structure: Text
    modality: Text
    shape_zyx: tuple[Whole, Whole, Whole] | None = None
    spacing_zyx: tuple[Real, Real, Real] | None = None
    truth_vox: Whole | None = None
    image_sha256: Text | None = None
    seed: Whole
    clicker_seed: Whole
    step: Annotated[int, Field(ge=1, le=MOST_CLICKS)]
    max_clicks: Annotated[int, Field(ge=1, le=MOST_CLICKS)]
    clicker: Text
    protocol: Text
    protocol_hash: Text
    clicker_params: Params = field(default_factory=dict)
    oracle: bool
    model: Text
    model_params: Params = field(default_factory=dict)
    model_hash: Text | None
    point_zyx: tuple[Whole, Whole, Whole] | None = None
    point_mm: tuple[Real, Real, Real] | None = None
    label: Literal[0, 1] | None = None
    prompt_zyxl: tuple[tuple[Whole, Whole, Whole, Literal[0, 1]], ...] | None = None
    start: Text = "empty"
    start_given: Params = field(default_factory=dict)
    start_score: Share | None = None
    undone: bool = False
    outcome: Outcome
    dice: Share
    iou: Share
    nsd: Share
    tol_mm: Positive
    hd95_mm: Positive | None = None
    fn_vox: Whole | None = None
    fp_vox: Whole | None = None
    complied: bool | None = None
    kept: Share | None = None
    mask_sha256: Text | None = None
    reward: Real | None = None
    terminated: bool
    truncated: bool
    t_click_s: Positive | None = None
    clicker_answers: Whole | None = None
    t_pause_s: Positive | None = None
    t_encode_s: Positive | None = None
    t_predict_s: Positive | None = None
    peak_memory_mib: Positive | None = None
    peak_gpu_mib: Positive | None = None
    device: Text
    error: Text | None = None

    @property
    def ended(self) -> bool:
        """Whether the episode ended with this step."""
        return self.terminated or self.truncated


_ADAPTER = TypeAdapter(StepRecord)


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line of ``steps.jsonl`` that is no step record.

    Attributes:
        path: the file.
        number: of the line, from 1.
        why: what is wrong with it.
    """

    path: Path
    number: int
    why: str

    def __str__(self) -> str:
        return f"{self.path}, line {self.number}: {self.why}"


def checked(record: StepRecord) -> StepRecord:
    """Return a record as it will be read again: text made printable.

    Raises:
        ValueError: a value has the wrong type, is not finite or is out of its range.
    """
    return parse_line(_line(asdict(record)))


def parse_line(line: str | bytes) -> StepRecord:
    """Read one line of ``steps.jsonl``.

    Raises:
        ValueError: the line is no step record of this schema; the message gives the reason.
    """
    if len(line) > _MOST_LINE:
        raise ValueError(f"no step record (longer than {_MOST_LINE} bytes)")
    try:
        record = _ADAPTER.validate_json(line, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"no step record ({printable(where) or 'not JSON'}: {printable(first['msg'])})") from None
    if record.schema != SCHEMA:
        raise ValueError(f"schema {record.schema}, this version reads schema {SCHEMA}")
    return record


def as_line(record: StepRecord) -> str:
    """Return a record as one line of ``steps.jsonl``, its end included; ``parse_line`` reads an equal record.

    Raises:
        ValueError: as ``checked``.
    """
    return _line(asdict(checked(record))) + "\n"


def as_lines(records: Iterable[StepRecord]) -> str:
    """Return records as lines of ``steps.jsonl``; see ``as_line``."""
    return "".join(map(as_line, records))


def read_steps(path: Path) -> list[StepRecord]:
    """Read ``steps.jsonl``. A last line without its end, as a killed run leaves it, is passed over.

    Raises:
        InputError: the file cannot be read, or another line is no step record.
    """
    records = []
    for found in scan_steps(path):
        if isinstance(found, BadLine):
            raise InputError(f"{found}; `synthfm bench ... --resume` takes that line out and plays its episode again")
        records.append(found)
    return records


def scan_steps(path: Path) -> Iterator[StepRecord | BadLine]:
    """Yield each line of ``steps.jsonl``, as a record or as what is wrong with it; see ``read_steps``.

    Raises:
        InputError: the file cannot be read.
    """
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: is no file; expected the step records of a run")
    try:
        with path.open("rb") as file:
            for number, line in enumerate(_bounded_lines(file), start=1):
                try:
                    yield parse_line(line)
                except ValueError as error:
                    yield BadLine(path, number, str(error))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected the step records of a run") from None


def _bounded_lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines that have an end, and of one that is too long its beginning."""
    while line := file.readline(_MOST_LINE + 1):
        rest = line
        while rest and not rest.endswith(b"\n"):
            rest = file.readline(_MOST_LINE)
        if rest:
            yield line


def results_hash(records: Iterable[StepRecord]) -> str:
    """Return the SHA-256 over everything in the records but the run's name, timings, memory, device and error texts.

    The order of the episodes does not matter. Equal hashes: the results were reproduced.
    """
    ordered = sorted(records, key=lambda record: (record.episode_id, record.step))
    digest = hashlib.sha256()
    for record in ordered:
        kept = {key: value for key, value in asdict(record).items() if key not in NOT_RESULTS}
        # Fields that came later count only if they are used, so that the hashes of older runs stay.
        kept = {key: value for key, value in kept.items() if key not in _LATER or value != _LATER[key]}
        digest.update(_line(kept).encode() + b"\n")
    return digest.hexdigest()


def _line(fields: Mapping[str, Any]) -> str:
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)
