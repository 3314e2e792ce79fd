import json
from dataclasses import asdict, replace

import pytest
from episode_records import episode
from hypothesis import given
from hypothesis import strategies as st

from synthfm_bench.results.episode_result import episodes_of
from synthfm_bench.results.run_directory import read_run
from synthfm_bench.results.step_record import NOT_RESULTS, StepRecord, as_lines, read_steps, results_hash
from synthfm_env.errors import InputError


def written(path, records):
    with path.open("w", encoding="utf-8") as file:
        file.write(as_lines(records))
    return path


@given(dice=st.floats(0, 1), seconds=st.floats(0, 1e6), point=st.none() | st.tuples(*[st.integers(0, 4000)] * 3))
def test_a_record_comes_back_bit_for_bit(tmp_path_factory, dice, seconds, point):
    (record,) = episode([dice], budget=1, point_zyx=point, t_predict_s=seconds, structure="Leber “links”", label=1)
    path = tmp_path_factory.mktemp("run") / "steps.jsonl"
    assert read_steps(written(path, [record])) == [record]


def test_a_line_says_what_it_holds(tmp_path):
    path = written(tmp_path / "steps.jsonl", episode([0.5], budget=1))
    (line,) = path.read_text(encoding="utf-8").splitlines()
    assert json.loads(line).keys() == asdict(episode([0.5], budget=1)[0]).keys()
    assert json.loads(line)["schema"] == 2


@pytest.mark.parametrize("cut", [1, 30, 200])
def test_a_killed_run_leaves_readable_lines(tmp_path, cut):
    records = episode([0.1, 0.2, 0.3], budget=3)
    path = written(tmp_path / "steps.jsonl", records)
    path.write_bytes(path.read_bytes()[:-cut])
    assert read_steps(path) == records[:2]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: no step record (not JSON"),
        ('{"schema": 2}', "line 2: no step record (run_id"),
        ("schema9", "line 2: schema 9, this version reads schema 2"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, message):
    path = written(tmp_path / "steps.jsonl", episode([0.1], budget=1))
    other = path.read_text(encoding="utf-8").replace('"schema":2', '"schema":9') if line == "schema9" else line + "\n"
    path.write_text(path.read_text(encoding="utf-8") + other)
    with pytest.raises(InputError) as error:
        read_steps(path)
    assert message in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"steps\.jsonl: cannot be read \(No such file or directory\)"):
        read_steps(tmp_path / "steps.jsonl")


RECORDS = [*episode([0.1, 0.2], budget=2), *episode([0.3, 0.4], budget=2, case_id="b")]


def test_the_hash_leaves_out_timings_device_run_and_the_order_of_episodes():
    later = [
        replace(
            r,
            run_id="again",
            device="cuda:0",
            t_click_s=9.0,
            t_encode_s=8.0,
            t_predict_s=None,
            error="at 0x7f",
            peak_memory_mib=512.0,
        )
        for r in RECORDS
    ]
    assert results_hash(later[2:] + later[:2]) == results_hash(RECORDS)


# Everything that is not left out on purpose counts, fields that come later too.
COUNTED = sorted(set(StepRecord.__dataclass_fields__) - NOT_RESULTS)


def test_what_the_hash_leaves_out_is_time_memory_place_and_wording():
    fields = StepRecord.__dataclass_fields__
    assert {name for name in fields if name.startswith(("t_", "peak_"))} | {
        "clicker_answers",
        "run_id",
        "device",
        "error",
    } == NOT_RESULTS


@pytest.mark.parametrize("field", COUNTED)
def test_the_hash_sees_every_other_field(field):
    value = getattr(RECORDS[0], field)
    if field.startswith(("point", "shape", "spacing")):
        other: object = (1, 2, 3)
    elif isinstance(value, dict):
        other = {"candidates": 3}
    else:
        other = value + 1 if isinstance(value, int | float) else f"{value}x"
    assert results_hash([replace(RECORDS[0], **{field: other}), *RECORDS[1:]]) != results_hash(RECORDS)


def test_the_hash_sees_a_missing_step():
    assert results_hash(RECORDS[:-1]) != results_hash(RECORDS)


def test_a_run_is_read_as_episodes(tmp_path):
    written(tmp_path / "steps.jsonl", RECORDS)
    (tmp_path / "run.json").write_text('{"status": "finished"}')
    run = read_run(tmp_path)
    assert [(one.case_id, one.dice.tolist()) for one in run.episodes] == [("a", [0.1, 0.2]), ("b", [0.3, 0.4])]
    assert run.about["status"] == "finished"
    assert results_hash(run.records) == results_hash(RECORDS)


@pytest.mark.parametrize(
    ("about", "message"), [(None, r"run\.json: cannot be read \(No such file"), ("{", r"run\.json: not valid JSON")]
)
def test_what_is_no_run_is_named(tmp_path, about, message):
    written(tmp_path / "steps.jsonl", RECORDS)
    if about:
        (tmp_path / "run.json").write_text(about)
    with pytest.raises(InputError, match=message):
        read_run(tmp_path)


def test_an_episode_has_its_figures():
    (one,) = episodes_of(
        [
            *episode([0.5, 0.9, 0.7], budget=3, complied=True, peak_memory_mib=10.0)[:1],
            *episode([0.5, 0.9, 0.7], budget=3, complied=False, t_encode_s=0.0, t_predict_s=2.0, hd95_mm=4.0)[1:],
        ]
    )
    assert (one.clicks_to(0.8), one.clicks_to(0.95)) == (2, None)
    assert one.nauc == pytest.approx((0.25 + 0.9 + 0.35) / 2)
    assert one.worst_drop == pytest.approx(0.2)
    assert one.compliance == pytest.approx(1 / 3)
    assert one.seconds_per_click == pytest.approx((0.5 + 2 + 2) / 3)
    assert (one.encode_seconds, one.peak_memory_mib, one.hd95_mm, one.failure) == (1.5, 10.0, 4.0, None)


def test_a_failed_episode_scores_nothing_from_that_click_on_and_its_drop_is_no_click():
    (one,) = episodes_of(episode([0.6, 0.8, 0.0], budget=5, outcome="timeout"))
    assert one.dice.tolist() == [0.6, 0.8, 0.0, 0.0, 0.0]
    assert (one.failure, one.worst_drop, one.clicks_to(0.8)) == ("timeout", 0.0, 2)


@pytest.mark.parametrize("steps", [RECORDS[1:2], RECORDS[:1], [*RECORDS[:2], RECORDS[0]]])
def test_an_episode_with_a_gap_or_a_double_is_refused(steps):
    with pytest.raises(InputError, match="steps are missing or occur twice"):
        episodes_of(steps)
