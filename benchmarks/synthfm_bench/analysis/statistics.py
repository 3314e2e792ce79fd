"""Computes statistics: bootstrap intervals, paired tests with Holm's correction, ranks, detectable differences.

The unit is the case (a volume, a patient, a seed). Callers average structures and repeats within a case first: episodes
of one case are not independent, and tests on episodes report differences that do not exist. All random numbers come
from ``SEED``, so the same scores give the same figures.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import brentq

from synthfm_env.errors import InputError

CONFIDENCE = 0.95
LEVEL = 0.05
POWER = 0.8
DRAWS = 10_000
SEED = 0
LEAST_CASES = 3
"""Below this many cases there is no interval and no test."""

_SIMULATED = 25  # up to this many cases the power is simulated
_STUDIES = 4000  # simulated studies
_SAME = 1e-12  # smaller differences are rounding


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over cases and its interval.

    Attributes:
        mean: over cases.
        low: lower end of the BCa interval; None below ``LEAST_CASES`` cases.
        high: upper end.
        cases: number of cases.
    """

    mean: float
    low: float | None
    high: float | None
    cases: int


@dataclass(frozen=True, slots=True)
class Pair:
    """Comparison of two rows on the cases that both have.

    Attributes:
        better: name of the row with the higher mean; of equal ones, the first.
        worse: name of the other row.
        difference: mean over cases of better minus worse, with its BCa interval.
        median: of the same differences.
        wins: cases in which ``better`` is ahead.
        losses: cases in which ``worse`` is ahead.
        p_wilcoxon: two-sided Wilcoxon signed-rank test, the primary one; None below ``LEAST_CASES`` cases.
        p_holm: the same, adjusted by Holm's method over all pairs that are compared together.
        p_t: two-sided paired t-test, unadjusted, as many papers report it.
        rank_biserial: effect size of the signed-rank test in [-1, 1]: the share of ranks in favour of ``better`` minus
            the share against it.
        cohen_dz: effect size of the t-test: mean over standard deviation of the differences; None if that is 0.
        detectable: minimal detectable difference: the smallest true difference that is significant with a probability
            of ``POWER``; None if no difference can be significant with so few cases.
        pairs: number of pairs in Holm's correction.
    """

    better: str
    worse: str
    difference: Estimate
    median: float
    wins: int
    losses: int
    p_wilcoxon: float | None
    p_holm: float | None
    p_t: float | None
    rank_biserial: float
    cohen_dz: float | None
    detectable: float | None
    pairs: int


def estimate(values: Sequence[float] | NDArray) -> Estimate:
    """Return the mean over cases with its 95 % BCa bootstrap interval (Efron 1987), as ``scipy.stats.bootstrap``.

    Args:
        values: one figure for each case.

    Raises:
        InputError: there is no value, or one is not a finite number.

    Example:
        >>> round(estimate([0.5, 0.7, 0.6, 0.8]).mean, 3)
        0.65
    """
    cases = _checked(values)
    mean = float(np.sort(cases).mean())
    if cases.size < LEAST_CASES:
        return Estimate(mean, None, None, cases.size)
    low, high = _bca(np.sort(cases).tobytes())
    return Estimate(mean, low, high, cases.size)


def compare(scores: Sequence[tuple[str, NDArray, str, NDArray]]) -> list[Pair]:
    """Compare pairs of rows, and correct p-values for the number of pairs by Holm's method.

    Args:
        scores: for each pair, name and scores of one row, then of the other, with the same cases in the same order.

    Returns:
        The pairs in the order given.

    Raises:
        InputError: the two rows differ in their number of cases, or a score is not a finite number.
    """
    pairs = [_pair(*pair, count=len(scores)) for pair in scores]
    tested = [pair.p_wilcoxon for pair in pairs if pair.p_wilcoxon is not None]
    adjusted = iter(holm(tested))
    return [replace(pair, p_holm=None if pair.p_wilcoxon is None else next(adjusted)) for pair in pairs]


def signed_rank(differences: NDArray) -> float:
    """Return the p-value of the two-sided Wilcoxon signed-rank test, as ``scipy.stats.wilcoxon`` by default.

    Cases without a difference are left out. Without other cases the p-value is 1.

    Example:
        >>> import numpy as np
        >>> signed_rank(np.array([0.1, 0.2, 0.3, 0.4, 0.5]))
        0.0625
    """
    moved = differences[np.abs(differences) > _SAME]
    return float(stats.wilcoxon(moved).pvalue) if moved.size else 1.0


def paired_t(differences: NDArray) -> float:
    """Return the p-value of the two-sided paired t-test, as ``scipy.stats.ttest_rel``; 1 without differences.

    If all differences are equal but not 0, the p-value is 0, its limit for small variances.
    """
    if np.ptp(differences) < _SAME:
        return 1.0 if abs(differences[0]) < _SAME else 0.0
    return float(stats.ttest_1samp(differences, 0).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted by Holm's step-down method (Scand. J. Statist. 1979), in the same order.

    If all pairs whose adjusted p-value is below a level are called different, the probability of one or more false
    positives among them is below that level.

    Example:
        >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, highest = [0.0] * len(p_values), 0.0
    for place, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[i]))
        adjusted[i] = highest
    return adjusted


def rank_intervals(scores: NDArray) -> list[tuple[int, int, int]]:
    """Return the rank of each entrant, and the ends of its 95 % interval; rank 1 has the highest mean.

    The interval is the percentile interval over bootstrap samples of the cases. In each sample all entrants are ranked
    by their means on the same cases. Entrants with equal means share the better rank.

    Args:
        scores: (cases, entrants).

    Raises:
        InputError: the scores do not have two axes, there is no case, or a score is not a finite number.
    """
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim != 2 or not table.size or not np.isfinite(table).all():
        raise InputError(f"rank_intervals: expected scores (cases, entrants), all numbers, got shape {table.shape}")
    cases = len(table)
    weights = np.random.default_rng(SEED).multinomial(cases, np.full(cases, 1 / cases), size=DRAWS) / cases
    ranks = _ranks(weights @ table)
    low, high = np.quantile(ranks, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2), axis=0, method="inverted_cdf")
    own = _ranks(table.mean(axis=0, keepdims=True))[0]
    return [(int(rank), int(best), int(worst)) for rank, best, worst in zip(own, low, high, strict=True)]


def detectable_difference(spread: float, cases: int, pairs: int = 1) -> float | None:
    """Return the smallest true mean difference that is significant with a probability of ``POWER``.

    Significant means: by the two-sided signed-rank test at ``LEVEL`` after Holm's method, whose first step requires
    ``LEVEL / pairs``. Differences are assumed to be normal. Up to ``_SIMULATED`` cases the power is simulated, because
    the test's p-values are coarse. With more cases it is that of the paired t-test (noncentral t) with 3/pi of the
    cases, the efficiency of the signed-rank test (Hodges and Lehmann 1956).

    Args:
        spread: standard deviation of the differences over cases.
        cases: number of cases.
        pairs: number of pairs in Holm's correction.

    Returns:
        None if no difference can be significant. The smallest possible p-value is ``2 ** (1 - cases)``, if one row is
        ahead in all cases.
    """
    if cases < LEAST_CASES or 2.0 ** (1 - cases) > LEVEL / pairs:
        return None
    standard = _by_simulation if cases <= _SIMULATED else _by_formula
    return float(spread * standard(cases, pairs))


@lru_cache(maxsize=256)
def _by_formula(cases: int, pairs: int) -> float:
    """Return the detectable difference in standard deviations, from the power of the t-test."""
    effective = cases * 3 / np.pi
    freedom = effective - 1
    critical = stats.t.isf(LEVEL / pairs / 2, freedom)

    def excess(effect: float) -> float:
        return float(stats.nct.sf(critical, freedom, effect * np.sqrt(effective)) - POWER)

    return float(brentq(excess, 0, (critical + 10) / np.sqrt(effective)))


@lru_cache(maxsize=256)
def _by_simulation(cases: int, pairs: int) -> float:
    """Return the detectable difference in standard deviations, from simulated studies."""
    # Exact distribution of the rank sum without a true difference, and its critical value.
    chances = np.ones(1)
    for rank in range(1, cases + 1):  # each rank is positive or negative with equal probability
        chances = np.append(chances, np.zeros(rank)) / 2 + np.append(np.zeros(rank), chances) / 2
    tail = np.cumsum(chances[::-1])[::-1]
    critical = int(np.argmax(2 * tail <= LEVEL / pairs * (1 + 1e-9)))
    # The effect with which the share of significant studies is POWER.
    studies = np.random.default_rng(SEED).normal(size=(_STUDIES, cases))

    def excess(effect: float) -> float:
        moved = studies + effect
        ranks = np.abs(moved).argsort(axis=1).argsort(axis=1) + 1
        return float(((ranks * (moved > 0)).sum(axis=1) >= critical).mean() - POWER)

    return float(brentq(excess, 0, 10, xtol=1e-3))


def _pair(first: str, a: NDArray, second: str, b: NDArray, count: int) -> Pair:
    """Compare two rows on the same cases. ``p_holm`` is filled in when all pairs are known."""
    differences = _checked(a) - _checked(b) if np.shape(a) == np.shape(b) else None
    if differences is None:
        raise InputError(f"{first} and {second}: {len(a)} and {len(b)} cases; a pair is compared on the same cases")
    if differences.mean() < 0:
        first, second, differences = second, first, -differences
    cases = differences.size
    enough = cases >= LEAST_CASES
    spread = float(differences.std(ddof=1)) if cases > 1 else 0.0
    return Pair(
        better=first,
        worse=second,
        difference=estimate(differences),
        median=float(np.median(differences)),
        wins=int((differences > _SAME).sum()),
        losses=int((differences < -_SAME).sum()),
        p_wilcoxon=signed_rank(differences) if enough else None,
        p_holm=None,
        p_t=paired_t(differences) if enough else None,
        rank_biserial=_rank_biserial(differences),
        cohen_dz=float(differences.mean() / spread) if spread > _SAME else None,
        detectable=detectable_difference(spread, cases, count),
        pairs=count,
    )


def _rank_biserial(differences: NDArray) -> float:
    moved = differences[np.abs(differences) > _SAME]
    if not moved.size:
        return 0.0
    ranks = stats.rankdata(np.abs(moved))
    return float((ranks * np.sign(moved)).sum() / ranks.sum())


def _ranks(means: NDArray) -> NDArray[np.int64]:
    """Return the rank of each column in its row; means that differ by rounding only share a rank."""
    return (means[:, None, :] > means[:, :, None] + _SAME).sum(axis=2) + 1


@lru_cache(maxsize=4096)
def _bca(values: bytes) -> tuple[float, float]:
    """Return the BCa interval of the mean of float64 values, given as bytes so that it is computed once."""
    cases = np.frombuffer(values)
    if np.ptp(cases) < _SAME:
        return float(cases.mean()), float(cases.mean())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        found = stats.bootstrap(
            (cases,),
            np.mean,
            n_resamples=DRAWS,
            confidence_level=CONFIDENCE,
            method="BCa",
            rng=np.random.default_rng(SEED),
        ).confidence_interval
    return float(found.low), float(found.high)


def _checked(values: Sequence[float] | NDArray) -> NDArray[np.float64]:
    cases = np.ascontiguousarray(values, dtype=np.float64)
    if cases.ndim != 1 or not cases.size or not np.isfinite(cases).all():
        raise InputError("statistics: expected one number a case, none missing")
    return cases
