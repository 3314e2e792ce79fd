"""Tests the reader of ``steps.jsonl``: it reads all that its writer accepts, and names any other line."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import result_or_refusal

from synthfm_bench.results.run_directory import read_about
from synthfm_bench.results.step_record import BadLine, StepRecord, as_line, parse_line, read_steps, scan_steps
from synthfm_bench.results.steps_file import StepsFile
from synthfm_env.errors import InputError
from synthfm_env.printable import printable

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=[])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
FIELDS = sorted(StepRecord.__dataclass_fields__)


def record(**fields: object) -> StepRecord:
    known: dict[str, object] = {
        "run_id": "run",
        "episode_id": "e",
        "env_id": "SynthFM/Volume-v0",
        "data_id": "d",
        "case_id": "c",
        "structure": "1",
        "modality": "CT",
        "seed": 0,
        "clicker_seed": 0,
        "step": 1,
        "max_clicks": 1,
        "clicker": "random",
        "protocol": "random",
        "protocol_hash": "0",
        "oracle": False,
        "model": "m",
        "model_hash": None,
        "outcome": "max_clicks",
        "dice": 0.5,
        "iou": 0.5,
        "nsd": 0.5,
        "tol_mm": 2.0,
        "terminated": False,
        "truncated": True,
        "device": "cpu",
    }
    return StepRecord(**(known | fields))  # type: ignore[arg-type]


@given(name=st.sampled_from(FIELDS), value=anything)
@settings(max_examples=300)
def test_a_record_of_any_values_is_refused_or_read_back_as_it_was_written(name, value):
    try:
        line = as_line(replace(record(), **{name: value}))
    except (ValueError, TypeError):
        return
    line.encode("utf-8")
    read = parse_line(line)
    assert as_line(read) == line
    assert parse_line(as_line(read)) == read


@given(text=st.text(st.characters(exclude_categories=[]), max_size=60))
def test_printable_text_is_printable_and_stays_as_it_is(text):
    shown = printable(text)
    assert shown.isprintable()
    assert printable(shown) == shown
    shown.encode("utf-8")


@given(content=st.binary(max_size=300) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")))
@settings(max_examples=200)
def test_any_bytes_in_the_file_are_bad_lines_with_their_numbers(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("run") / "steps.jsonl"
    good = as_line(record()).encode()
    path.write_bytes(good + content + b"\n" + good)
    found = list(scan_steps(path))
    assert (found[0], found[-1]) == (record(), record())
    assert [line.number for line in found if isinstance(line, BadLine)] == list(range(2, len(found)))
    with StepsFile(path) as file:
        assert len(file.bad_lines) == len(found) - 2


@given(content=anything)
@settings(max_examples=200)
def test_any_json_as_a_runs_description_is_read_or_refused_in_one_line(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("run")
    (folder / "run.json").write_text(json.dumps(content))
    about, _ = result_or_refusal(read_about, folder)
    assert about in (None, json.loads(json.dumps(content)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "nested too deeply"),
        ("[]", "is no file of a run"),
        ('{"versions": ["numpy"]}', "versions: input should be a valid dictionary"),
        ('{"suite": "quick"}', "suite: input should be a valid dictionary"),
        ('{"notes": [1]}', "notes.0: input should be a valid string"),
    ],
)
def test_a_broken_description_of_a_run_is_named(tmp_path, text, message):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_about(tmp_path)


def test_a_line_that_is_too_long_is_named_and_the_next_one_is_read(tmp_path):
    path = tmp_path / "steps.jsonl"
    path.write_bytes(b"x" * (3 << 20) + b"\n" + as_line(record()).encode())
    long, good = scan_steps(path)
    assert str(long).endswith("line 1: no step record (longer than 1048576 bytes)")
    assert good == record()


def test_a_file_that_is_none_is_refused(tmp_path):
    (tmp_path / "steps.jsonl").mkdir()
    with pytest.raises(InputError, match="is no file"):
        read_steps(tmp_path / "steps.jsonl")


def test_opening_a_file_for_writing_never_follows_a_link(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    path = Path(tmp_path / "steps.jsonl")
    path.symlink_to(victim)
    with StepsFile(path) as file:
        file.append([record()])
    assert victim.read_text(encoding="utf-8") == "precious"
    assert not path.is_symlink()
    assert read_steps(path) == [record()]
