"""Computes the scores of the CVPR 2025 challenge on interactive 3D segmentation as ``CVPR25_iter_eval.py`` does."""

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields

import numpy as np
from numpy.typing import NDArray

from synthfm_bench.analysis.aggregate import LeaderboardRow
from synthfm_bench.results.csv_text import csv_text
from synthfm_bench.results.episode_result import EpisodeResult

CLICKS = 5
LEAST_DICE = 0.2  # at or below it the script sets NSD to 0


@dataclass(frozen=True, slots=True)
class Cvpr25Scores:
    """One case of one segmenter.

    Attributes:
        dsc_auc: trapezoid over the five clicks with unit spacing, from 0 to **4**, not to 1.
        nsd_auc: the same of NSD at 2 mm.
        dsc_final: after the fifth click, mean over structures.
        nsd_final: the same of NSD.
    """

    dsc_auc: float
    nsd_auc: float
    dsc_final: float
    nsd_final: float


def score_case(episodes: Sequence[EpisodeResult]) -> Cvpr25Scores:
    """Score a case from the episodes of its structures, one segmenter and the clicker ``cvpr25-v1``.

    The script plays a box first, which does not enter the AUC, and then five clicks on every structure. It has faults
    that are left out here: after a failed answer it scores the earlier mask, here the score is 0; a case without a
    final file is missing in its table, here it counts as 0. What is kept: NSD is 0 if the mean DSC of the structures
    is at most 0.2, and the AUC ends at 4.

    Args:
        episodes: of one case; shorter ones keep their last score, failed ones score 0 from there on.

    Example:
        >>> from synthfm_bench.publish.cvpr25_scores import CLICKS
        >>> CLICKS
        5
    """
    dsc = np.mean([_padded(episode.dice) for episode in episodes], axis=0)
    nsd = np.mean([_padded(episode.nsd) for episode in episodes], axis=0)
    nsd = np.where(dsc > LEAST_DICE, nsd, 0.0)
    return Cvpr25Scores(
        dsc_auc=float(np.trapezoid(dsc)),
        nsd_auc=float(np.trapezoid(nsd)),
        dsc_final=float(dsc[-1]),
        nsd_final=float(nsd[-1]),
    )


def csv_scores(rows: Iterable[LeaderboardRow]) -> str | None:
    """Return the challenge's figures as CSV, the mean over cases; None if no row was played by its click rule.

    Args:
        rows: of a board.
    """
    played = [row for row in rows if row.episodes[0].steps[0].protocol == "cvpr25-v1"]
    if not played:
        return None
    names = [field.name for field in fields(Cvpr25Scores)]
    lines = [["data", "segmenter", "clicker", "cases", *names]]
    for row in played:
        means = np.mean([astuple(score_case(episodes)) for episodes in row.cases.values()], axis=0)
        lines.append([row.data_id, row.segmenter, row.clicker, str(len(row.cases)), *(f"{m:.6f}" for m in means)])
    return csv_text(lines)


def _padded(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the scores after clicks 1 to 5; beyond the budget the last one holds."""
    found = np.asarray(scores, dtype=np.float64)[:CLICKS]
    return np.pad(found, (0, CLICKS - found.size), mode="edge")
