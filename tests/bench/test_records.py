import json
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up import episode

from synthfm_bench.records import StepRecord, read_steps, results_hash, write_step
from synthfm_env.errors import InputError


def written(path, records):
    with path.open("w", encoding="utf-8") as file:
        for record in records:
            write_step(file, record)
    return path


@given(dice=st.floats(0, 1), seconds=st.floats(0, 1e6), point=st.none() | st.tuples(*[st.integers(0, 4000)] * 3))
def test_a_record_comes_back_bit_for_bit(tmp_path_factory, dice, seconds, point):
    (record,) = episode([dice], budget=1, point_zyx=point, t_predict_s=seconds, structure="Leber “links”", label=1)
    path = tmp_path_factory.mktemp("run") / "steps.jsonl"
    assert read_steps(written(path, [record])) == [record]


def test_a_line_says_what_it_holds(tmp_path):
    path = written(tmp_path / "steps.jsonl", episode([0.5], budget=1))
    (line,) = path.read_text().splitlines()
    assert json.loads(line).keys() == asdict(episode([0.5], budget=1)[0]).keys()
    assert json.loads(line)["schema"] == 1


@pytest.mark.parametrize("cut", [1, 30, 200])
def test_a_killed_run_leaves_readable_lines(tmp_path, cut):
    records = episode([0.1, 0.2, 0.3], budget=3)
    path = written(tmp_path / "steps.jsonl", records)
    path.write_bytes(path.read_bytes()[:-cut])
    assert read_steps(path) == records[:2]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "line 2: no step record (not JSON"),
        ('{"schema": 1}', "line 2: no step record (run_id"),
        ("schema9", "line 2: schema 9, this version reads schema 1"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, says):
    path = written(tmp_path / "steps.jsonl", episode([0.1], budget=1))
    other = path.read_text().replace('"schema":1', '"schema":9') if line == "schema9" else line + "\n"
    path.write_text(path.read_text() + other)
    with pytest.raises(InputError) as error:
        read_steps(path)
    assert says in str(error.value)


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
        )
        for r in RECORDS
    ]
    assert results_hash(later[2:] + later[:2]) == results_hash(RECORDS)


# Everything that is not left out on purpose counts, fields that come later too.
COUNTED = sorted(
    set(StepRecord.__dataclass_fields__) - {"run_id", "device", "error", "t_click_s", "t_encode_s", "t_predict_s"}
)


@pytest.mark.parametrize("field", COUNTED)
def test_the_hash_sees_every_other_field(field):
    value = getattr(RECORDS[0], field)
    other = value + 1 if isinstance(value, int | float) else (1, 2, 3) if field.startswith("point") else f"{value}x"
    assert results_hash([replace(RECORDS[0], **{field: other}), *RECORDS[1:]]) != results_hash(RECORDS)


def test_the_hash_sees_a_missing_step():
    assert results_hash(RECORDS[:-1]) != results_hash(RECORDS)
