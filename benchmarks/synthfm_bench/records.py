"""One line per click: what was played, and what came of it. Board and hash come from these lines alone."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from pydantic import TypeAdapter, ValidationError

from synthfm_env.errors import InputError

SCHEMA = 1
FAILURES = ("no_valid_click", "model_error", "timeout", "invalid_prompt")
"""Outcomes that count as failures. ``no_error``, a clicker that finds nothing left to correct, does not."""

_NOT_A_RESULT = {"run_id", "device", "error", "t_click_s", "t_encode_s", "t_predict_s"}


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
        structure: what was to be segmented.
        modality: of the volume.
        seed: the env's reset seed.
        clicker_seed: the clicker's; the same for every model, so that models are compared on the same draws.
        step: 1 for the first click.
        max_clicks: budget of the episode; an episode that ends earlier keeps its last score up to there.
        clicker: its name.
        oracle: whether the clicker sees the truth.
        model: the segmenter's name.
        model_hash: of its weights, None where it has none.
        point_zyx: the clicked voxel, (z, y, x); None where no click was made.
        point_mm: the same in mm from the centre of the first voxel, (z, y, x).
        label: 1 for a positive click, 0 for a negative one, None where no click was made.
        outcome: "running" while the episode goes on, else how it ended: "max_clicks", "target_reached",
            "stopped", "no_error" (stopped because nothing was left to correct), or one of ``FAILURES``.
        dice: after this step, in [0, 1].
        iou: as dice.
        fn_vox: missed voxels, None where no mask was ever given.
        fp_vox: wrongly covered voxels.
        complied: whether the mask obeys the clicked voxel; None where the click was not answered.
        mask_sha256: of the mask that stands, one byte a voxel, C order.
        reward: the env's.
        terminated: the env's.
        truncated: the env's.
        t_click_s: seconds that the clicker took.
        t_encode_s: seconds that the segmenter took for the image, paid once; None where it gave no answer.
        t_predict_s: seconds that it took for this click.
        device: where the segmenter ran.
        error: the message of a failure.
    """

    schema: int = SCHEMA
    run_id: str
    episode_id: str
    env_id: str
    data_id: str
    case_id: str
    structure: str
    modality: str
    seed: int
    clicker_seed: int
    step: int
    max_clicks: int
    clicker: str
    oracle: bool
    model: str
    model_hash: str | None
    point_zyx: tuple[int, int, int] | None = None
    point_mm: tuple[float, float, float] | None = None
    label: int | None = None
    outcome: str
    dice: float
    iou: float
    fn_vox: int | None = None
    fp_vox: int | None = None
    complied: bool | None = None
    mask_sha256: str | None = None
    reward: float | None = None
    terminated: bool
    truncated: bool
    t_click_s: float | None = None
    t_encode_s: float | None = None
    t_predict_s: float | None = None
    device: str
    error: str | None = None


_ADAPTER = TypeAdapter(StepRecord)


def write_step(file: TextIO, record: StepRecord) -> None:
    """Append a record as one JSON line, and flush."""
    file.write(_line(asdict(record)) + "\n")
    file.flush()


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
    """Return the SHA-256 over everything in the records but the run's name, timings, device and error texts.

    The order of the episodes does not matter. Equal hashes: the results were reproduced.
    """
    ordered = sorted(records, key=lambda record: (record.episode_id, record.step))
    digest = hashlib.sha256()
    for record in ordered:
        kept = {key: value for key, value in asdict(record).items() if key not in _NOT_A_RESULT}
        digest.update(_line(kept).encode() + b"\n")
    return digest.hexdigest()


def _line(fields: Mapping[str, Any]) -> str:
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)
