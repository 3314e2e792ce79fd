from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from synthfm_bench.analysis import statistics
from synthfm_bench.analysis.statistics import (
    compare,
    detectable_difference,
    estimate,
    holm,
    paired_t,
    rank_intervals,
    signed_rank,
)
from synthfm_env.errors import InputError

SKEWED = np.array([0.91, 0.85, 0.88, 0.12, 0.79, 0.95])


def bca_by_enumeration(values):
    """Return the BCa interval from every resample there is, by Efron's formulas."""
    n = len(values)
    means = np.sort(np.array([np.mean(draw) for draw in product(values, repeat=n)]))
    share = ((means < values.mean() - 1e-12).mean() + (means <= values.mean() + 1e-12).mean()) / 2
    z0 = stats.norm.ppf(share)
    left_out = np.array([np.delete(values, i).mean() for i in range(n)])
    spread = left_out.mean() - left_out
    a = (spread**3).sum() / (6 * (spread**2).sum() ** 1.5)
    z = stats.norm.ppf([0.025, 0.975])
    return np.quantile(means, stats.norm.cdf(z0 + (z0 + z) / (1 - a * (z0 + z))))


def test_the_interval_is_the_bca_interval_of_all_resamples():
    found = estimate(SKEWED)
    assert found.mean == pytest.approx(0.75)
    assert (found.low, found.high) == pytest.approx(bca_by_enumeration(SKEWED), abs=0.01)
    assert found.mean - found.low > 1.5 * (found.high - found.mean)  # towards the outlier; a percentile one is not


def test_the_interval_is_scipys():
    values = np.random.default_rng(5).beta(5, 2, 40)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, rng=np.random.default_rng(77)).confidence_interval
    found = estimate(values)
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.003)


def test_same_scores_same_interval_and_no_global_generator():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    statistics._bca.cache_clear()
    first = estimate(SKEWED)
    statistics._bca.cache_clear()
    assert estimate(list(SKEWED)) == first
    assert estimate(SKEWED[::-1]) == first  # nor does the order of the cases matter
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_an_interval_of_equal_cases_is_a_point_and_of_two_cases_none():
    assert estimate([0.5] * 7) == statistics.Estimate(0.5, 0.5, 0.5, 7)
    assert estimate([0.25, 0.75]) == statistics.Estimate(0.5, None, None, 2)


@pytest.mark.parametrize("bad", [[], [0.1, float("nan")], [[0.1, 0.2]]])
def test_missing_scores_are_refused(bad):
    with pytest.raises(InputError, match="one number a case"):
        estimate(bad)


@given(st.lists(st.integers(-60, 60).filter(bool), min_size=3, max_size=9, unique_by=abs))
def test_signed_rank_counts_all_signs(differences):
    ranks = stats.rankdata(np.abs(differences))
    sums = np.array([np.dot(signs, ranks) for signs in product((0, 1), repeat=len(ranks))])
    own = ranks[np.array(differences) > 0].sum()
    exact = min(1.0, 2 * min((sums <= own).mean(), (sums >= own).mean()))
    assert signed_rank(np.array(differences) / 100) == pytest.approx(exact)


def test_tests_are_scipys():
    rng = np.random.default_rng(2)
    for n in (5, 12, 60):
        a, b = rng.beta(5, 2, n), rng.beta(4, 2, n)
        (pair,) = compare([("a", a, "b", b)])
        assert pair.p_wilcoxon == stats.wilcoxon(a, b).pvalue
        assert pair.p_t == pytest.approx(stats.ttest_rel(a, b).pvalue)


def test_cases_without_a_difference_are_set_aside():
    moved = np.array([0.1, 0.2, -0.05, 0.3, 0.4])
    assert signed_rank(np.append(moved, [0.0, 1e-17])) == signed_rank(moved)
    assert signed_rank(np.zeros(8)) == paired_t(np.zeros(8)) == 1
    assert paired_t(np.full(8, 0.25)) == 0


def test_holm_equals_the_values_by_hand():
    assert holm([0.04, 0.01, 0.03, 0.005]) == pytest.approx([0.06, 0.03, 0.06, 0.02])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_the_closed_test_of_bonferroni(p_values):
    sets = [s for k in range(1, len(p_values) + 1) for s in combinations(range(len(p_values)), k)]
    bonferroni = {s: min(1.0, len(s) * min(p_values[i] for i in s)) for s in sets}
    closed = [max(bonferroni[s] for s in sets if i in s) for i in range(len(p_values))]
    assert holm(p_values) == pytest.approx(closed)


def test_a_pair_equals_the_values_by_hand():
    worse, better = np.array([0.5, 0.5, 0.5, 0.5]), np.array([0.6, 0.7, 0.5, 0.45])
    (pair,) = compare([("worse", worse, "better", better)])
    assert (pair.better, pair.worse, pair.wins, pair.losses) == ("better", "worse", 2, 1)
    assert pair.difference.mean == pytest.approx(0.0625)
    assert pair.median == pytest.approx(0.05)
    assert pair.rank_biserial == pytest.approx((2 + 3 - 1) / 6)
    assert pair.cohen_dz == pytest.approx(0.0625 / np.std([0.1, 0.2, 0, -0.05], ddof=1))


def test_a_pair_reads_the_same_from_both_sides():
    a, b = np.random.default_rng(3).random((2, 15))
    assert compare([("a", a, "b", b)]) == compare([("b", b, "a", a)])


def test_holm_goes_over_all_pairs_and_each_keeps_its_place():
    rng = np.random.default_rng(4)
    a, b, c = rng.normal([0.5, 0.6, 0.8], 0.1, (20, 3)).T
    pairs = compare([("a", a, "b", b), ("a", a, "c", c), ("b", b, "c", c)])
    assert [{pair.better, pair.worse} for pair in pairs] == [{"a", "b"}, {"a", "c"}, {"b", "c"}]
    assert [pair.p_holm for pair in pairs] == holm([pair.p_wilcoxon for pair in pairs])
    assert {pair.pairs for pair in pairs} == {3}


def test_two_cases_are_not_tested():
    (pair,) = compare([("a", np.array([0.5, 0.6]), "b", np.array([0.4, 0.1]))])
    assert (pair.p_wilcoxon, pair.p_holm, pair.p_t, pair.detectable, pair.difference.low) == (None,) * 5


def test_pairs_on_different_cases_are_refused():
    with pytest.raises(InputError, match="a and b: 3 and 4 cases"):
        compare([("a", np.ones(3), "b", np.ones(4))])


def test_the_detectable_difference_is_detected_in_four_studies_of_five():
    rng = np.random.default_rng(6)
    for cases, pairs in ((6, 1), (10, 15), (20, 3), (50, 1)):
        size = detectable_difference(0.2, cases, pairs)
        studies = rng.normal(size, 0.2, (3000, cases))
        power = (stats.wilcoxon(studies, axis=1).pvalue <= 0.05 / pairs).mean()
        assert power == pytest.approx(0.8, abs=0.03)


def test_five_cases_can_show_nothing_and_six_can_alone():
    assert detectable_difference(0.1, 5) is None  # five wins of five: p = 0.0625
    assert detectable_difference(0.1, 6) > 0
    assert detectable_difference(0.1, 6, pairs=2) is None
    assert detectable_difference(0.0, 20) == 0


def test_ranks_of_clear_and_of_level_entrants():
    rng = np.random.default_rng(7)
    base = rng.random((30, 1)) * 0.1
    clear = base + np.array([0.5, 0.9, 0.7])
    assert rank_intervals(clear) == [(3, 3, 3), (1, 1, 1), (2, 2, 2)]
    assert rank_intervals(np.repeat(base, 3, axis=1)) == [(1, 1, 1)] * 3


def test_rank_intervals_equal_those_of_a_plain_loop():
    rng = np.random.default_rng(8)
    scores = rng.normal([0.5, 0.53, 0.6, 0.8], 0.15, (25, 4))
    ranks = np.array([stats.rankdata(-scores[rng.integers(0, 25, 25)].mean(axis=0), method="min") for _ in range(4000)])
    expected = np.quantile(ranks, [0.025, 0.975], axis=0, method="inverted_cdf").T
    assert [(low, high) for _, low, high in rank_intervals(scores)] == [tuple(pair) for pair in expected]


def test_ranks_of_missing_scores_are_refused():
    with pytest.raises(InputError, match="rank_intervals"):
        rank_intervals(np.array([[0.1, np.nan]]))
