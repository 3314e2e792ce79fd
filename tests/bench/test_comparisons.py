import csv
import io

import numpy as np
import pytest
from episode_records import episode
from scipy import stats

from synthfm_bench.analysis.aggregate import LeaderboardRow, make_board
from synthfm_bench.analysis.comparisons import compare_group, csv_pairs, sentence, verdict
from synthfm_bench.analysis.statistics import estimate, holm
from synthfm_bench.results.episode_result import episodes_of


def group(clicker: str = "random", **dices: list[float]) -> list[LeaderboardRow]:
    """Return the rows of segmenters whose Dice after 5 clicks in case 0, 1, ... are given."""
    records = [
        step
        for model, finals in dices.items()
        for case, dice in enumerate(finals)
        for step in episode([0.0] * 4 + [dice] + [0.0], budget=6, model=model, case_id=str(case), clicker=clicker)
    ]
    return make_board(episodes_of(records))


def spread(mean: float, cases: int, seed: int = 0) -> list[float]:
    return list(np.random.default_rng(seed).uniform(mean - 0.1, mean + 0.1, cases))


def test_the_sentence_of_a_clear_pair_is_what_the_records_give():
    a, b = np.array(spread(0.7, 12)), np.array(spread(0.6, 12, seed=1))
    rows = group(sam=list(a), geodesic=list(b))
    (said,) = verdict(rows)
    interval = estimate(a - b)
    p = stats.wilcoxon(a, b).pvalue
    assert said == (
        f"with random: sam leads geodesic by {100 * (a - b).mean():.1f} Dice points [{100 * interval.low:.1f}, "
        f"{100 * interval.high:.1f}], better in {(a > b).sum()} of 12 cases, p = {p:.3f} (Holm)."
    )


def test_the_sentence_of_a_pair_that_shows_nothing_says_what_could_have_been_shown():
    a = np.array(spread(0.6, 12))
    (comparison,) = compare_group(rows := group(a=list(a), b=list(np.roll(a, 5))), rows[0].primary)
    assert comparison.pair.p_holm > 0.05
    assert sentence(comparison).endswith(
        f"(Holm): not significant (n = 12, minimal detectable difference {100 * comparison.pair.detectable:.1f})"
    )


def test_few_cases_could_not_have_shown_any_difference():
    assert verdict(group(a=[0.5, 0.6, 0.7], b=[0.1, 0.2, 0.4]))[0].endswith(
        "better in 3 of 3 cases, p = 0.250 (Holm): not significant (n = 3, too few for any difference)."
    )
    assert verdict(group(a=[0.5, 0.6], b=[0.1, 0.2]))[0] == (
        "with random: a leads b by 40.0 Dice points, better in 2 of 2 cases; 2 cases are too few for a test."
    )


def test_one_case_and_level_ones_and_tiny_p_values():
    assert verdict(group(a=[0.5], b=[0.2])) == [
        "with random: a leads b by 30.0 Dice points; 1 case is too few for a test.",
        "One case is an example, not a ranking.",
    ]
    assert verdict(group(a=[0.5] * 8, b=[0.5] * 8))[0].startswith("with random: a and b are equal [0.0, 0.0]")
    far = verdict(group(a=spread(0.8, 20), b=spread(0.3, 20, seed=1)))[0]
    assert far.endswith("better in 20 of 20 cases, p < 0.001 (Holm).")


def test_pairs_differ_in_one_thing_and_holm_is_over_all_of_them():
    records = [
        step
        for clicker, gain in (("random", 0.0), ("ritm", 0.05))
        for model, mean in (("a", 0.6), ("b", 0.62), ("c", 0.8))
        for case, dice in enumerate(spread(mean + gain, 10, seed=len(model + clicker)))
        for step in episode([dice], budget=1, model=model, case_id=str(case), clicker=clicker)
    ]
    rows = make_board(episodes_of(records))
    found = compare_group(rows, rows[0].primary)
    assert [c.of for c in found] == ["segmenters"] * 6 + ["clickers"] * 3
    assert {c.held for c in found} == {"with random", "with ritm", "of a", "of b", "of c"}
    assert [c.pair.p_holm for c in found] == holm([c.pair.p_wilcoxon for c in found])
    assert verdict(rows, most=2)[-1] == "7 more pairs are in leaderboard.md."


def test_pairs_are_compared_on_the_cases_that_both_have():
    rows = group(a=[0.9, 0.8, 0.7, 0.0], b=[0.1, 0.1, 0.1])
    (comparison,) = compare_group(rows, rows[0].primary)
    assert (comparison.pair.difference.cases, comparison.pair.wins) == (3, 3)


def test_less_is_better_for_some_figures():
    records = [
        step
        for model, mm in (("near", 1.0), ("far", 9.0))
        for case in range(6)
        for step in episode([0.5], budget=1, model=model, case_id=str(case), hd95_mm=mm + 0.1 * case)
    ]
    rows = make_board(episodes_of(records))
    (comparison,) = compare_group(rows, next(f for f in rows[0].columns if f.key == "hd95_mm"))
    text = sentence(comparison)
    assert text.startswith("near leads far by 8.0 HD95 mm [8.0, 8.0], better in 6 of 6 cases, p = 0.031")


def test_failures_are_named():
    rows = make_board(
        episodes_of([*episode([0.0], budget=2, outcome="timeout"), *episode([0.5] * 2, budget=2, model="b")])
    )
    assert "one failed in 1 of 1 episodes with random." in verdict(rows)


def test_the_csv_holds_every_pair_in_every_figure():
    rows = group(a=spread(0.7, 9), b=spread(0.6, 9, seed=1), c=spread(0.5, 9, seed=2))
    table = list(csv.DictReader(io.StringIO(csv_pairs(rows))))
    assert len(table) == 3 * len([f for f in rows[0].columns if rows[0].estimate(f)])
    line = next(t for t in table if t["figure"] == "dice@5" and {t["better"], t["worse"]} == {"a", "b"})
    values = {row.segmenter: list(row.case_values(row.primary).values()) for row in rows}
    expected = stats.wilcoxon(values[line["better"]], values[line["worse"]])
    assert float(line["p_wilcoxon"]) == expected.pvalue
    assert float(line["difference"]) == pytest.approx(np.mean(values[line["better"]]) - np.mean(values[line["worse"]]))
    assert line["pairs"] == "3"
