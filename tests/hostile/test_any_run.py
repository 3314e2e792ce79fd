"""Tests ``run.json`` with any value in any place: the board is made, or the run is refused with one line."""

import json
from pathlib import Path

import pytest
from episode_records import made_episode
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import result_or_refusal

from synthfm_bench.analysis.aggregate import make_board
from synthfm_bench.execution.resume import suite_of
from synthfm_bench.execution.trust import check_trusted
from synthfm_bench.report.markdown import markdown_board
from synthfm_bench.report.reproduction import reproduction_steps
from synthfm_bench.results.merge import join_runs
from synthfm_bench.results.step_record import as_lines, results_hash

RECORDS = made_episode([0.5, 0.6], data_id="synthetic")
SUITE = {
    "name": "quick",
    "segmenters": [{"use": "geodesic", "name": "g", "params": {}}],
    "clickers": ["random"],
    "clicks": 2,
    "seed": 0,
    "targets": [0.8],
    "tolerance_mm": 2.0,
    "description": "",
    "data": [{"kind": "synthetic", "name": "synthetic", "shape": [4, 32, 32], "cases": 1}],
}
ABOUT = {
    "run_id": "run",
    "status": "finished",
    "started": "2026-11-29",
    "episodes": 1,
    "played": 1,
    "suite": SUITE,
    "segmenters": {"g": {"use": "geodesic", "params": {}, "weights_sha256": None, "device": "cpu"}},
    "clickers": {"random": {"use": "random", "params": {}, "protocol_hash": "0", "oracle": False}},
    "versions": {"numpy": "2"},
    "machine": {"cores": 2},
    "envs": {},
    "notes": ["a note"],
    "left_out": [],
    "workers": 1,
    "git_commit": None,
    "results_hash": results_hash(RECORDS),
}
PLACES = [
    *([key] for key in ABOUT),
    *(["suite", key] for key in SUITE),
    *(["suite", "data", 0, key] for key in SUITE["data"][0]),
    ["suite", "segmenters", 0],
    ["segmenters", "g"],
    ["segmenters", "g", "weights_sha256"],
    ["clickers", "random"],
    ["notes", 0],
]
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=[]), max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)


def read(folder: Path) -> str:
    pytest.importorskip("tomli_w")
    joined = join_runs([folder])
    for run in joined.runs:
        reproduction_steps(run)
        suite_of(folder)
        result_or_refusal(check_trusted, run.suite, folder, "synthfm verify")
    return markdown_board(make_board(joined.episodes, joined.runs[0].suite.targets), "x")


@given(place=st.sampled_from(PLACES), value=values)
@settings(max_examples=150)
def test_any_value_in_any_place(tmp_path_factory, place, value):
    folder = tmp_path_factory.mktemp("run")
    about = json.loads(json.dumps(ABOUT))
    target = about
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    (folder / "run.json").write_text(json.dumps(about))
    (folder / "steps.jsonl").write_text(as_lines(RECORDS))
    result_or_refusal(read, folder)


@pytest.mark.parametrize("place", PLACES, ids=lambda place: ".".join(map(str, place)))
def test_any_field_may_be_missing(tmp_path, place):
    about = json.loads(json.dumps(ABOUT))
    target = about
    for key in place[:-1]:
        target = target[key]
    del target[place[-1]]
    (tmp_path / "run.json").write_text(json.dumps(about))
    (tmp_path / "steps.jsonl").write_text(as_lines(RECORDS))
    result_or_refusal(read, tmp_path)
