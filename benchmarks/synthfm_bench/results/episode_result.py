"""Groups records by episode and computes an episode's figures."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from synthfm_bench.results.step_record import FAILURES, StepRecord
from synthfm_env.errors import InputError
from synthfm_env.metrics import clicks_to_target, normalised_auc, worst_drop

_SAME_IN_AN_EPISODE = ("data_id", "case_id", "image_id", "model", "clicker", "protocol_hash", "max_clicks", "tol_mm")


@dataclass(frozen=True, eq=False)
class EpisodeResult:
    """One structure of one case, played by one clicker with one segmenter.

    Attributes:
        steps: its records, the first click first, the last one with its end.
    """

    steps: tuple[StepRecord, ...]

    @classmethod
    def of(cls, steps: Iterable[StepRecord]) -> "EpisodeResult":
        """Put the records of one episode in order.

        Raises:
            InputError: a step is missing or stands there twice, the episode has no end or exceeds its click budget, or
                its records differ in what they are about.
        """
        ordered = tuple(sorted(steps, key=lambda record: record.step))
        first, ends = ordered[0], [record.ended for record in ordered]
        if [record.step for record in ordered] != list(range(1, len(ordered) + 1)) or not ends[-1] or any(ends[:-1]):
            raise InputError(
                f"episode {first.episode_id}: steps are missing or occur twice; its run was stopped, or the file "
                "was cut or joined; `synthfm bench ... --resume` ends a run that was stopped"
            )
        for name in _SAME_IN_AN_EPISODE:
            if len({getattr(record, name) for record in ordered}) > 1:
                raise InputError(f"episode {first.episode_id}: its records differ in {name}; the file was changed")
        if len(ordered) > first.max_clicks:
            raise InputError(f"episode {first.episode_id}: has more steps than its {first.max_clicks} clicks")
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
        """The structure to segment."""
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
        """The outcome of the last step."""
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
    def iou(self) -> NDArray[np.float64]:
        """The same of the intersection over union."""
        return self._curve([record.iou for record in self.steps])

    @cached_property
    def nsd(self) -> NDArray[np.float64]:
        """The same of the normalised surface Dice, at the tolerance ``steps[0].tol_mm``."""
        return self._curve([record.nsd for record in self.steps])

    @property
    def hd95_mm(self) -> float | None:
        """HD95 of the mask at the end; None if mask or truth is empty, and after a failure."""
        return self.steps[-1].hd95_mm

    @property
    def nauc(self) -> float:
        """Normalised area under the Dice curve, in [0, 1]."""
        return normalised_auc(self.dice)

    def clicks_to(self, target: float) -> int | None:
        """Return how many clicks the Dice ``target`` took (NoC), None if it was never reached."""
        return clicks_to_target(self.dice, target)

    @property
    def worst_drop(self) -> float:
        """By how much the worst single answered click lowered Dice; a failure is no answer."""
        answered = [record.dice for record in self.steps if record.outcome not in FAILURES]
        return worst_drop(answered) if answered else 0.0

    @property
    def compliance(self) -> float | None:
        """Share of the answered clicks whose own voxel the mask obeyed at once; None if none was answered."""
        return _mean([record.complied for record in self.steps])

    @property
    def seconds_per_click(self) -> float | None:
        """Mean seconds of the segmenter for a click, encoding apart; None if none was answered."""
        return _mean([record.t_predict_s for record in self.steps])

    @property
    def encode_seconds(self) -> float | None:
        """Seconds for the image: 0 if an earlier episode paid them; None if no click was answered."""
        seconds = [record.t_encode_s for record in self.steps if record.t_encode_s is not None]
        return sum(seconds) if seconds else None

    @property
    def peak_memory_mib(self) -> float | None:
        """The most memory that its process held, in MiB; None if it was not measured."""
        return max(
            (record.peak_memory_mib for record in self.steps if record.peak_memory_mib is not None), default=None
        )

    def _curve(self, scores: Sequence[float]) -> NDArray[np.float64]:
        return np.array([*scores, *[scores[-1]] * (self.max_clicks - len(scores))], dtype=np.float64)


def episodes_of(records: Iterable[StepRecord]) -> list[EpisodeResult]:
    """Return the episodes of records, in the order of their first records.

    Raises:
        InputError: an episode lacks a step, or has one twice.
    """
    return [EpisodeResult.of(steps) for steps in by_episode(records).values()]


def by_episode(records: Iterable[StepRecord]) -> dict[str, list[StepRecord]]:
    """Return the records by episode id, in the order of their first records."""
    steps: dict[str, list[StepRecord]] = defaultdict(list)
    for record in records:
        steps[record.episode_id].append(record)
    return steps


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
