"""One record per click: what was played, and its scores. Every table is computed from these records alone."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

from pydantic import TypeAdapter, ValidationError

from synthfm_env.errors import InputError

SCHEMA = 2
FAILURES = ("no_valid_click", "model_error", "timeout", "invalid_prompt")
"""Outcomes that count as failures. ``no_error``, a clicker that finds nothing left to correct, does not."""
NOT_RESULTS = frozenset(
    (
        "run_id",
        "device",
        "error",
        "t_click_s",
        "t_pause_s",
        "t_encode_s",
        "t_predict_s",
        "peak_memory_mib",
        "peak_gpu_mib",
    )
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
        undone: whether this step took back the newest click; it counts as a click.
        t_click_s: seconds that the clicker took; of a person, from seeing the mask to the click, pauses left out.
        t_pause_s: seconds that a person paused before this click; None for other clickers.
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
    undone: bool = False
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
    t_pause_s: float | None = None
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


_ADAPTER = TypeAdapter(StepRecord)


def write_steps(file: TextIO, records: Iterable[StepRecord]) -> None:
    """Append records as JSON lines."""
    file.write(as_lines(records))


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
        if not record.undone:  # a field that people's records alone need: hashes from before it stay as they were
            del kept["undone"]
        digest.update(_line(kept).encode() + b"\n")
    return digest.hexdigest()


def as_lines(records: Iterable[StepRecord]) -> str:
    """Return records as JSON lines."""
    return "".join(_line(asdict(record)) + "\n" for record in records)


def _line(fields: Mapping[str, Any]) -> str:
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)
