"""Measures error rates of the board's statistics in simulated studies of known truth.

    python benchmarks/studies/error_rates.py

prints the tables of docs/experiments/2026-11-error-rates.md. A study has cases of unequal difficulty, each with several
structures whose scores are correlated (intraclass correlation 0.5). Scores are in [0, 1] and skewed, as Dice values
are. All draws follow from fixed seeds.
"""

import argparse
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from scipy import stats

from synthfm_bench.analysis.statistics import LEVEL, detectable_difference, estimate, holm, paired_t, signed_rank

STRUCTURES = 5
ENTRANTS = 6


def scores(rng: np.random.Generator, cases: int, entrants: int) -> NDArray[np.float64]:
    """Return Dice-like scores (entrants, cases, structures) of entrants that are equally good.

    An entrant's luck with a case is shared by all structures of that case.
    """
    difficulty = rng.normal(1.2, 0.8, (1, cases, 1))
    luck = rng.normal(0, 0.5, (entrants, cases, 1))
    noise = rng.normal(0, 0.5, (entrants, cases, STRUCTURES))
    values: NDArray[np.float64] = stats.norm.cdf(difficulty + luck + noise)
    return values


def false_differences(cases: int, studies: int, seed: int) -> dict[str, float]:
    """Return how often two equal entrants are called different: by case means, and by rows as a warning."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(studies):
        one, other = scores(rng, cases, 2)
        means, rows = (one - other).mean(axis=1), (one - other).ravel()
        found.append([signed_rank(means), paired_t(means), signed_rank(rows), paired_t(rows)])
    shares = (np.array(found) <= LEVEL).mean(axis=0)
    names = ("Wilcoxon, cases", "paired t, cases", "Wilcoxon, rows", "paired t, rows")
    return dict(zip(names, shares.tolist(), strict=True))


def false_winners(cases: int, studies: int, seed: int) -> dict[str, float]:
    """Return how often any pair of ``ENTRANTS`` equal ones is called different, without and with Holm."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(studies):
        means = scores(rng, cases, ENTRANTS).mean(axis=2)
        p_values = [signed_rank(means[i] - means[j]) for i in range(ENTRANTS) for j in range(i)]
        found.append([min(p_values), min(holm(p_values))])
    plain, adjusted = (np.array(found) <= LEVEL).mean(axis=0).tolist()
    return {"unadjusted": plain, "after Holm": adjusted}


def coverage(cases: int, studies: int, seed: int) -> dict[str, float]:
    """Return how often the 95 % interval of a mean holds the true mean, and how often a percentile one does."""
    rng = np.random.default_rng(seed)
    true = float(scores(np.random.default_rng(1), 200_000, 1).mean())
    bca = percentile = 0
    for _ in range(studies):
        means = scores(rng, cases, 1)[0].mean(axis=1)
        found = estimate(means)
        assert found.low is not None, "enough cases"
        assert found.high is not None, "enough cases"
        bca += found.low <= true <= found.high
        draws = means[rng.integers(0, cases, (2000, cases))].mean(axis=1)
        low, high = np.quantile(draws, (0.025, 0.975))
        percentile += bool(low <= true <= high)
    return {"BCa": bca / studies, "percentile": percentile / studies}


def power(cases: int, pairs: int, studies: int, seed: int) -> float | None:
    """Return the share of studies that show a true difference of the detectable size; None if no size is detectable."""
    size = detectable_difference(1.0, cases, pairs)
    if size is None:
        return None
    rng = np.random.default_rng(seed)
    return float(np.mean([signed_rank(rng.normal(size, 1, cases)) <= LEVEL / pairs for _ in range(studies)]))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2000, help="simulated studies a figure, 2000 by default")
    studies = parser.parse_args().studies
    _table(
        f"Two equal entrants, {STRUCTURES} structures a case: called different in",
        (6, 10, 20, 50),
        lambda cases: false_differences(cases, studies, seed=cases),
    )
    _table(
        f"{ENTRANTS} equal entrants, all {ENTRANTS * (ENTRANTS - 1) // 2} pairs: any called different in",
        (12, 20, 50),
        lambda cases: false_winners(cases, studies, seed=cases),
    )
    _table(
        "The 95 % interval of a mean holds the true mean in",
        (3, 5, 10, 20, 50, 100),
        lambda cases: coverage(cases, studies // 2, seed=cases),
    )
    _table(
        "A true difference of the size called detectable is shown in",
        (6, 10, 20, 50),
        lambda cases: {f"of {pairs} pairs": power(cases, pairs, studies, seed=cases) for pairs in (1, 3, 15)},
    )


def _table(title: str, sizes: tuple[int, ...], rates: Callable[[int], Mapping[str, float | None]]) -> None:
    steps = track(sizes, "simulating", console=Console(stderr=True), transient=True)
    rows = {cases: rates(cases) for cases in steps}
    headings = next(iter(rows.values()))
    print(f"{title}:\n\n| cases | {' | '.join(headings)} |\n|---|{'---|' * len(headings)}")
    for cases, row in rows.items():
        shares = ("-" if share is None else f"{100 * share:.1f} %" for share in row.values())
        print(f"| {cases} | {' | '.join(shares)} |")
    print(flush=True)


if __name__ == "__main__":
    main()
