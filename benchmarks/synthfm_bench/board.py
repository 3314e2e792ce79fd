"""The board's arithmetic: from step records to one row per data group, segmenter and clicker."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from synthfm_bench.records import FAILURES, StepRecord
from synthfm_env.errors import InputError
from synthfm_env.metrics import normalised_auc

DICE_AT = (1, 3, 5, 10)
VERDICT_AT = 5
_LEVEL = 0.0005  # means closer than this read the same with three decimals


@dataclass(frozen=True, eq=False)
class Row:
    """How one segmenter did with one clicker on one group of data.

    Attributes:
        data_id: the group.
        model: the segmenter.
        clicker: its clicker.
        oracle: whether the clicker sees the truth.
        case_curves: of each case, Dice after click 1, 2, ... up to the budget, averaged over its structures.
        episodes: how many episodes were played.
        seconds_per_click: the segmenter's mean time for a click, encoding apart; None if it never answered.
        encode_seconds: its mean time for an image, whoever clicked; None if it encoded none.
        failures: number of episodes that ended in each kind of failure.
    """

    data_id: str
    model: str
    clicker: str
    oracle: bool
    case_curves: Mapping[str, NDArray[np.float64]]
    episodes: int
    seconds_per_click: float | None
    encode_seconds: float | None
    failures: Mapping[str, int]

    @property
    def curve(self) -> NDArray[np.float64]:
        """Mean Dice over cases after click 1, 2, ... up to the budget."""
        return np.mean(list(self.case_curves.values()), axis=0)

    @property
    def dice_at(self) -> dict[int, float]:
        """Mean Dice over cases after the clicks of ``DICE_AT``, and after the last one."""
        curve = self.curve
        clicks = [n for n in DICE_AT if n < len(curve)] + [len(curve)]
        return {n: float(curve[n - 1]) for n in clicks}

    @property
    def nauc(self) -> float:
        """Normalised area under the mean curve, in [0, 1]."""
        return normalised_auc(self.curve)


def make_board(records: Iterable[StepRecord]) -> list[Row]:
    """Return the rows: groups with more cases first, and in a group, per clicker, the higher nAUC first.

    Every episode counts with its whole budget: one that ended early, by a failure too, keeps its last score.
    Structures are averaged inside a case, then the cases.

    Raises:
        InputError: an episode lacks a step, or episodes that share a row differ in budget.
    """
    episodes: dict[str, list[StepRecord]] = defaultdict(list)
    for record in records:
        episodes[record.episode_id].append(record)
    rows: dict[tuple[str, str, str], list[list[StepRecord]]] = defaultdict(list)
    for steps in episodes.values():
        steps.sort(key=lambda record: record.step)
        rows[(steps[0].data_id, steps[0].model, steps[0].clicker)].append(steps)
    encodes: dict[tuple[str, str], list[float]] = defaultdict(list)  # an image is encoded once for all clickers
    for record in chain.from_iterable(episodes.values()):
        if record.t_encode_s:
            encodes[(record.data_id, record.model)].append(record.t_encode_s)
    board = [_row(played, encodes[(data_id, model)]) for (data_id, model, _), played in rows.items()]
    return sorted(board, key=lambda row: (-len(row.case_curves), row.data_id, row.clicker, -row.nauc, row.model))


def episode_curve(steps: Sequence[StepRecord]) -> NDArray[np.float64]:
    """Return Dice after click 1, 2, ... up to the budget; after its end an episode keeps its last score.

    Raises:
        InputError: a step is missing, or the episode has no end.
    """
    last = steps[-1]
    if [record.step for record in steps] != list(range(1, len(steps) + 1)) or not (last.terminated or last.truncated):
        raise InputError(f"episode {last.episode_id}: steps are missing; its run was stopped, or the file was cut")
    scores = [record.dice for record in steps]
    return np.array(scores + scores[-1:] * (last.max_clicks - len(scores)))


def verdict(group: Sequence[Row]) -> str:
    """Say who is ahead in one group of data after ``VERDICT_AT`` clicks, clicker by clicker."""
    cases = len(group[0].case_curves)
    at = min(VERDICT_AT, *(len(row.curve) for row in group))
    clickers = list(dict.fromkeys(row.clicker for row in group))
    parts = [f"with {name}, {_ahead([row for row in group if row.clicker == name], at)}" for name in clickers]
    parts += [f"{row.model} failed in {n} of {row.episodes} episodes of {row.clicker}" for row, n in _failed(group)]
    caveat = " One case is an example, not a ranking." if cases == 1 else ""
    return f"{group[0].data_id}, after {at} click{'s' * (at > 1)}: {'; '.join(parts)}.{caveat}"


def by_group(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Return the rows of each data group, both in the order they have."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.data_id].append(row)
    return dict(groups)


def _row(played: Sequence[Sequence[StepRecord]], encodes: Sequence[float]) -> Row:
    first = played[0][0]
    if len({steps[0].max_clicks for steps in played}) > 1:
        raise InputError(f"{first.data_id}, {first.model}, {first.clicker}: episodes differ in their click budget")
    curves: dict[str, list[NDArray[np.float64]]] = defaultdict(list)
    for steps in played:
        curves[steps[0].case_id].append(episode_curve(steps))
    clicks = [record.t_predict_s for steps in played for record in steps if record.t_predict_s is not None]
    return Row(
        data_id=first.data_id,
        model=first.model,
        clicker=first.clicker,
        oracle=first.oracle,
        case_curves={case: np.mean(curves[case], axis=0) for case in sorted(curves)},
        episodes=len(played),
        seconds_per_click=float(np.mean(clicks)) if clicks else None,
        encode_seconds=float(np.mean(encodes)) if encodes else None,
        failures=dict(sorted(Counter(s[-1].outcome for s in played if s[-1].outcome in FAILURES).items())),
    )


def _failed(group: Iterable[Row]) -> list[tuple[Row, int]]:
    return [(row, sum(row.failures.values())) for row in group if row.failures]


def _ahead(rows: Sequence[Row], at: int) -> str:
    """Say who leads whom among the segmenters that one clicker played."""
    scores = {row.model: float(row.curve[at - 1]) for row in rows}
    first, *rest = sorted(rows, key=lambda row: -scores[row.model])
    if not rest:
        return f"{first.model} stands alone at Dice {scores[first.model]:.3f}"
    second, *others = rest
    lead = scores[first.model] - scores[second.model]
    also = "".join(f", then {row.model} at {scores[row.model]:.3f}" for row in others)
    if lead < _LEVEL:
        return f"{first.model} and {second.model} are level at Dice {scores[first.model]:.3f}{also}"
    shared = [case for case in first.case_curves if case in second.case_curves]
    better = sum(first.case_curves[case][at - 1] > second.case_curves[case][at - 1] for case in shared)
    count = f", better in {better} of {len(shared)} cases" if len(shared) > 1 else ""
    return (
        f"{first.model} is ahead of {second.model} by {100 * lead:.1f} Dice points "
        f"({scores[first.model]:.3f} against {scores[second.model]:.3f}{count}){also}"
    )
