import csv
import io

import numpy as np
import pytest
from episode_records import episode
from rich.console import Console

from synthfm_bench.analysis.aggregate import LeaderboardRow, make_board, ranks, select
from synthfm_bench.analysis.columns import NAUC, dice_columns
from synthfm_bench.report.console import print_board
from synthfm_bench.report.csv_board import csv_board
from synthfm_bench.report.markdown import markdown_board
from synthfm_bench.results.episode_result import episodes_of
from synthfm_bench.results.step_record import StepRecord
from synthfm_env.errors import InputError


def board(records: list[StepRecord]) -> list[LeaderboardRow]:
    return make_board(episodes_of(records))


def dice_at(row: LeaderboardRow) -> dict[int, float]:
    return {int(column.key[5:]): row.estimate(column).mean for column in dice_columns(row.budget)}


def column_mean(row: LeaderboardRow, key: str) -> float | None:
    found = row.estimate(next(column for column in row.columns if column.key == key))
    return None if found is None else found.mean


def test_structures_are_averaged_inside_a_case_before_the_cases():
    records = [
        *episode([0.2, 0.4], budget=2, case_id="a", structure="liver"),
        *episode([0.6, 1.0], budget=2, case_id="a", structure="spleen"),
        *episode([0.0, 0.1], budget=2, case_id="b", structure="liver"),
    ]
    (row,) = board(records)
    # case a: (0.4, 0.7), case b: (0.0, 0.1); a mean over the three rows would give 0.2667 and 0.5
    assert dice_at(row) == pytest.approx({1: 0.2, 2: 0.4})
    assert row.estimate(NAUC).mean == pytest.approx(0.3)
    assert (len(row.cases), len(row.episodes)) == (2, 3)


def test_figures_of_ten_clicks_equal_those_by_hand():
    (row,) = board(episode([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0], budget=10))
    assert dice_at(row) == pytest.approx({1: 0.1, 3: 0.3, 5: 0.5, 10: 1.0})
    assert row.estimate(NAUC).mean == pytest.approx(0.55)  # trapezoid of a straight line from 0.1 to 1.0
    assert row.seconds_per_click == pytest.approx(0.5)
    assert row.failures == {}


@pytest.mark.parametrize(("budget", "clicks"), [(1, [1]), (4, [1, 3, 4]), (5, [1, 3, 5]), (12, [1, 3, 5, 10, 12])])
def test_the_last_click_is_always_a_column(budget, clicks):
    (row,) = board(episode([0.5] * budget, budget=budget))
    assert list(dice_at(row)) == clicks


def test_failures_count_and_are_scored_by_kind():
    fine = episode([0.8, 0.8], budget=2, case_id="a")
    at_once = episode([0.0], budget=2, case_id="b", outcome="model_error", t_encode_s=None, t_predict_s=None)
    later = episode([0.4], budget=2, case_id="c", outcome="invalid_prompt")
    perfect = episode([1.0], budget=2, case_id="d", outcome="no_error")
    (row,) = board([*fine, *at_once, *later, *perfect])
    assert row.failures == {"invalid_prompt": 1, "model_error": 1}
    assert dice_at(row) == pytest.approx({1: 0.55, 2: 0.55})  # (0.8 + 0 + 0.4 + 1) / 4: none is dropped
    assert row.seconds_per_click == pytest.approx(0.5)


def test_a_segmenter_that_never_answers_has_no_times():
    (row,) = board(episode([0.0], budget=3, outcome="model_error", t_encode_s=None, t_predict_s=None))
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
    assert csv_board(board(shuffled)) == csv_board(board(records))


def test_the_better_segmenter_stands_first_and_groups_with_more_cases_too():
    records = [
        *episode([0.9], budget=1, data_id="one volume", model="weak"),
        *episode([0.1], budget=1, model="weak"),
        *episode([0.7], budget=1, model="strong"),
        *episode([0.1], budget=1, model="weak", case_id="b"),
        *episode([0.7], budget=1, model="strong", case_id="b"),
    ]
    rows = board(records)
    assert [(row.data_id, row.segmenter) for row in rows] == [
        ("synthetic", "strong"),
        ("synthetic", "weak"),
        ("one volume", "weak"),
    ]


def test_episodes_of_different_budgets_share_no_row():
    with pytest.raises(InputError, match="click budget"):
        board([*episode([0.1], budget=1), *episode([0.1, 0.2], budget=2, case_id="b")])


def test_csv_and_markdown_carry_the_same_rows():
    rows = board(
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
    assert "| one | random (blind) | 0.250 | 0.500 | 0.375 | - |" in markdown
    assert "| one | ritm (oracle) | 1.000 |" in markdown
    assert "One case is an example, not a ranking." in markdown


def test_csv_has_full_precision_and_intervals():
    dices = [0.1234567, 0.5, 0.7, 0.9]
    rows = board([step for i, d in enumerate(dices) for step in episode([d], budget=1, case_id=str(i))])
    (line,) = csv.DictReader(io.StringIO(csv_board(rows)))
    found = rows[0].estimate(dice_columns(1)[0])
    assert float(line["dice@1"]) == np.mean(dices)
    assert (float(line["dice@1_low"]), float(line["dice@1_high"])) == (found.low, found.high)
    assert (line["cases"], line["noc85_median"], line["noc85_reached"]) == ("4", "", "0.25")


def test_the_terminal_board_is_narrow_and_shows_failures_only_where_there_are_any():
    fine = [s for m in ("synthfm3d-nano", "geodesic") for s in episode([0.5] * 10, budget=10, model=m)]
    broken = episode([0.0], budget=10, clicker="ritm-3d-v1", model="geodesic", outcome="timeout")
    for records, failed in ((fine, False), ([*fine, *broken], True)):
        text = io.StringIO()
        print_board(board(records), Console(file=text, width=200))
        assert ("failed" in text.getvalue()) == failed
        headings = next(line for line in text.getvalue().splitlines() if "Dice@10" in line)
        assert len(headings.rstrip()) < 90 + 20 * failed


def test_a_board_of_clickers_keeps_blind_ones_apart_and_shows_the_price_of_a_click():
    records = [
        *episode([0.4], budget=1, clicker="blind-weak", t_click_s=0.1, clicker_answers=0),
        *episode([0.6], budget=1, clicker="greedy", oracle=True, t_click_s=0.5, clicker_answers=9),
        *episode([0.7], budget=1, clicker="oracle-best", oracle=True, t_click_s=0.2, clicker_answers=0),
        *episode([0.5], budget=1, clicker="better-blind", t_click_s=0.25, clicker_answers=1),
    ]
    text = io.StringIO()
    print_board(board(records), Console(file=text, width=200))
    lines = [line for line in text.getvalue().splitlines() if line.split()[:1] == ["one"]]
    assert [line.split()[1] for line in lines] == ["better-blind", "blind-weak", "oracle-best", "greedy"]
    assert [line.partition(" s, ")[2].strip() for line in lines] == ["1.0 answers", "", "", "9.0 answers"]
    assert "0.100 s" in lines[1]
    row = next(csv.DictReader(io.StringIO(csv_board(board(records)))))
    assert (row["clicker"], row["clicker_seconds"], row["clicker_answers"]) == ("better-blind", "0.25", "1.0")


def test_an_image_is_encoded_once_for_all_clickers():
    records = [
        *episode([0.5], budget=1, t_encode_s=3.0),
        *episode([0.5], budget=1, clicker="ritm", t_encode_s=0.0),
        *episode([0.5], budget=1, model="other", t_encode_s=1.0),
    ]
    seconds = {(row.segmenter, row.clicker): row.encode_seconds for row in board(records)}
    assert seconds == {("one", "random"): 3.0, ("one", "ritm"): 3.0, ("other", "random"): 1.0}


def test_figures_other_than_dice_equal_those_by_hand():
    records = [
        *episode([0.9, 0.5, 0.6], budget=3, nsd=0.4, hd95_mm=3.0, complied=True, case_id="a"),
        *episode([0.1, 0.2], budget=3, nsd=0.2, hd95_mm=None, complied=False, case_id="b", outcome="stopped"),
    ]
    (row,) = board(records)
    assert column_mean(row, "nsd") == pytest.approx(0.3)
    assert column_mean(row, "hd95_mm") == pytest.approx(3.0)  # the one case that has it
    assert column_mean(row, "worst_drop") == pytest.approx(0.2)
    assert column_mean(row, "compliance") == pytest.approx(0.5)
    assert next(f.name for f in row.columns if f.key == "nsd") == "NSD@2mm"


def test_clicks_to_a_target_keep_never_reached_apart():
    def at(*firsts: int | None) -> LeaderboardRow:
        curves = [[0.9 if first and k >= first else 0.0 for k in (1, 2, 3)] for first in firsts]
        (row,) = board([s for i, c in enumerate(curves) for s in episode(c, budget=3, case_id=str(i))])
        return row

    assert at(1, 3, 3).clicks_to(0.8) == (1.0, 3)
    assert at(1, None, None).clicks_to(0.8) == (pytest.approx(1 / 3), None)
    assert at(1, 3, None).clicks_to(0.95) == (0.0, None)


def test_ranks_are_among_rows_of_one_clicker():
    rng = np.random.default_rng(1)
    records = [
        step
        for clicker in ("random", "ritm")
        for model, level in (("good", 0.8), ("bad", 0.2))
        for case in range(8)
        for step in episode([level + 0.1 * rng.random()], budget=1, model=model, clicker=clicker, case_id=str(case))
    ]
    rows = board(records)
    assert [(row.segmenter, rank) for row, rank in zip(rows, ranks(rows), strict=True)] == [
        ("good", (1, 1, 1)),
        ("bad", (2, 2, 2)),
    ] * 2
    assert ranks([rows[0], rows[3]]) == [None, None]  # each is alone with its clicker


def test_select_keeps_what_is_wanted_and_drops_empty_rows():
    records = [
        *episode([0.2], budget=1, structure="liver"),
        *episode([0.6], budget=1, structure="spleen"),
        *episode([0.4], budget=1, structure="liver", model="other"),
    ]
    (row,) = select(board(records), lambda episode: episode.structure == "spleen")
    assert (row.segmenter, dice_at(row)) == ("one", {1: 0.6})
