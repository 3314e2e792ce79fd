import csv
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up import episode

from synthfm_bench.board import by_group, episode_curve, make_board, verdict
from synthfm_bench.leaderboard import csv_board, markdown_board
from synthfm_env.errors import InputError


def test_structures_are_averaged_inside_a_case_before_the_cases():
    records = [
        *episode([0.2, 0.4], budget=2, case_id="a", structure="liver"),
        *episode([0.6, 1.0], budget=2, case_id="a", structure="spleen"),
        *episode([0.0, 0.1], budget=2, case_id="b", structure="liver"),
    ]
    (row,) = make_board(records)
    # case a: (0.4, 0.7), case b: (0.0, 0.1); a mean over the three rows would give 0.2667 and 0.5
    assert row.dice_at == pytest.approx({1: 0.2, 2: 0.4})
    assert row.nauc == pytest.approx(0.3)
    assert (len(row.case_curves), row.episodes) == (2, 3)


def test_figures_of_ten_clicks_by_hand():
    (row,) = make_board(episode([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0], budget=10))
    assert row.dice_at == pytest.approx({1: 0.1, 3: 0.3, 5: 0.5, 10: 1.0})
    assert row.nauc == pytest.approx(0.55)  # trapezoid of a straight line from 0.1 to 1.0
    assert row.seconds_per_click == pytest.approx(0.5)
    assert row.encode_seconds == pytest.approx(1.5)
    assert row.failures == {}


@pytest.mark.parametrize(("budget", "clicks"), [(1, [1]), (4, [1, 3, 4]), (5, [1, 3, 5]), (12, [1, 3, 5, 10, 12])])
def test_the_last_click_is_always_a_column(budget, clicks):
    (row,) = make_board(episode([0.5] * budget, budget=budget))
    assert list(row.dice_at) == clicks


def test_an_episode_that_ends_early_keeps_its_score_to_the_end_of_the_budget():
    steps = episode([0.3, 0.9], budget=5, outcome="no_error")
    assert episode_curve(steps) == pytest.approx([0.3, 0.9, 0.9, 0.9, 0.9])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=10), st.integers(10, 15))
def test_carried_forward_scores_are_as_if_the_last_one_had_been_played(scores, budget):
    ended = episode(scores, budget=budget, outcome="stopped")
    played = episode(scores + scores[-1:] * (budget - len(scores)), budget=budget)
    np.testing.assert_array_equal(episode_curve(ended), episode_curve(played))


def test_failures_count_and_are_scored_by_kind():
    fine = episode([0.8, 0.8], budget=2, case_id="a")
    at_once = episode([0.0], budget=2, case_id="b", outcome="model_error", t_encode_s=None, t_predict_s=None)
    later = episode([0.4], budget=2, case_id="c", outcome="invalid_prompt")
    perfect = episode([1.0], budget=2, case_id="d", outcome="no_error")
    (row,) = make_board([*fine, *at_once, *later, *perfect])
    assert row.failures == {"invalid_prompt": 1, "model_error": 1}
    assert row.dice_at == pytest.approx({1: 0.55, 2: 0.55})  # (0.8 + 0 + 0.4 + 1) / 4: none is dropped
    assert row.seconds_per_click == pytest.approx(0.5)


def test_a_segmenter_that_never_answers_has_no_times():
    (row,) = make_board(episode([0.0], budget=3, outcome="model_error", t_encode_s=None, t_predict_s=None))
    assert (row.seconds_per_click, row.encode_seconds) == (None, None)
    assert "| - | - | 1 model_error |" in markdown_board([row], "x")


def test_rows_do_not_depend_on_the_order_of_the_records():
    records = [
        step
        for case in "abc"
        for model, dice in (("one", 0.3), ("two", 0.6))
        for step in episode([dice, dice], budget=2, case_id=case, model=model)
    ]
    shuffled = [records[i] for i in np.random.default_rng(0).permutation(len(records))]
    assert csv_board(make_board(shuffled)) == csv_board(make_board(records))


def test_the_better_segmenter_stands_first_and_groups_with_more_cases_too():
    records = [
        *episode([0.9], budget=1, data_id="one volume", model="weak"),
        *episode([0.1], budget=1, model="weak"),
        *episode([0.7], budget=1, model="strong"),
        *episode([0.1], budget=1, model="weak", case_id="b"),
        *episode([0.7], budget=1, model="strong", case_id="b"),
    ]
    rows = make_board(records)
    assert [(row.data_id, row.model) for row in rows] == [
        ("synthetic", "strong"),
        ("synthetic", "weak"),
        ("one volume", "weak"),
    ]


def test_an_episode_without_its_end_is_refused():
    with pytest.raises(InputError, match="synthetic/a/liver/one/random: steps are missing"):
        make_board(episode([0.1, 0.2, 0.3], budget=3)[:2])
    with pytest.raises(InputError, match="steps are missing"):
        make_board(episode([0.1, 0.2, 0.3], budget=3)[1:])


def test_episodes_of_different_budgets_share_no_row():
    with pytest.raises(InputError, match="click budget"):
        make_board([*episode([0.1], budget=1), *episode([0.1, 0.2], budget=2, case_id="b")])


def board(**dices: list[float]):
    """Return the board of models whose Dice after 5 clicks in case 0, 1, ... are given."""
    return make_board(
        step
        for model, finals in dices.items()
        for case, dice in enumerate(finals)
        for step in episode([0.0] * 4 + [dice] + [0.0], budget=6, model=model, case_id=str(case))
    )


def test_the_sentence_says_who_is_ahead_at_five_clicks():
    assert verdict(board(sam=[0.8, 0.5, 0.6], geodesic=[0.5, 0.6, 0.2])) == (
        "synthetic, after 5 clicks: with random, sam is ahead of geodesic by 20.0 Dice points (0.633 against "
        "0.433, better in 2 of 3 cases)."
    )


def test_the_sentence_says_when_sam_loses():
    text = verdict(board(sam=[0.2], geodesic=[0.5], other=[0.1]))
    assert "geodesic is ahead of sam by 30.0 Dice points (0.500 against 0.200), then other at 0.100" in text
    assert text.endswith("One case is an example, not a ranking.")


def test_the_sentence_says_level_and_alone():
    assert "a and b are level at Dice 0.500" in verdict(board(a=[0.5002, 0.5], b=[0.5, 0.5]))
    assert "a stands alone at Dice 0.500" in verdict(board(a=[0.5, 0.5]))


def test_the_sentence_names_each_clicker_and_each_failure():
    records = [
        *episode([0.5, 0.5], budget=2, model="a"),
        *episode([0.2, 0.2], budget=2, model="b"),
        *episode([0.1], budget=2, model="a", clicker="ritm", oracle=True, outcome="timeout"),
        *episode([0.9, 0.9], budget=2, model="b", clicker="ritm", oracle=True),
    ]
    text = verdict(make_board(records))
    assert "after 2 clicks: with random, a is ahead of b" in text
    assert "with ritm, b is ahead of a" in text
    assert "a failed in 1 of 1 episodes of ritm" in text


def test_csv_and_markdown_carry_the_same_rows():
    rows = make_board(
        [
            *episode([0.25, 0.5], budget=2),
            *episode([1.0], budget=2, clicker="ritm", oracle=True, outcome="no_error"),
        ]
    )
    table = list(csv.DictReader(io.StringIO(csv_board(rows))))
    assert [(line["clicker"], line["clicker_kind"], float(line["dice@2"])) for line in table] == [
        ("random", "blind", 0.5),
        ("ritm", "oracle", 1.0),
    ]
    markdown = markdown_board(rows, "quick")
    assert "| one | random (blind) | 0.250 | 0.500 | 0.375 | 0.50 | 1.50 | 0 |" in markdown
    assert "| one | ritm (oracle) | 1.000 |" in markdown
    assert verdict(by_group(rows)["synthetic"]) in markdown


def test_an_image_is_encoded_once_for_all_clickers():
    records = [
        *episode([0.5], budget=1, t_encode_s=3.0),
        *episode([0.5], budget=1, clicker="ritm", t_encode_s=0.0),
        *episode([0.5], budget=1, model="other", t_encode_s=1.0),
    ]
    seconds = {(row.model, row.clicker): row.encode_seconds for row in make_board(records)}
    assert seconds == {("one", "random"): 3.0, ("one", "ritm"): 3.0, ("other", "random"): 1.0}
