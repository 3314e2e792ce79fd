"""Tests random JSON and TOML as suites and recipes: read, or refused with one line."""

import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import result_or_refusal

from synthfm_bench.suite import Suite, load_suite, own_volume, parse_suite, with_choices
from synthfm_env.errors import InputError
from synthfm_env.synthesis import load_recipe
from synthfm_env.synthesis.recipe import GeneratorRecipe as GeneratorRecipe
from synthfm_train.recipe_io import read_fields
from synthfm_train.run import load_any_recipe

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
SUITE = {
    "name": "mine",
    "segmenters": ["geodesic"],
    "clickers": ["random"],
    "data": [{"kind": "synthetic", "name": "s", "shape": [8, 32, 32], "cases": 1}],
}
GROUP = ["kind", "name", "shape", "cases", "env", "recipe", "layout", "path", "part", "image", "label", "structures"]


def test_a_file_name_that_is_not_utf8_can_be_played_and_recorded(tmp_path):
    image = tmp_path / os.fsdecode(b"bad\xff.nii")
    suite = with_choices(load_suite("quick"), data=own_volume(image, image))
    about = json.dumps(suite.model_dump(mode="json"))
    assert parse_suite(json.loads(about), "again") == suite
    assert suite.description.endswith("bad\\xff.nii")


@given(key=st.sampled_from([*Suite.model_fields, "other"]), value=values)
@settings(max_examples=150)
def test_any_value_in_a_suite(key, value):
    suite, _ = result_or_refusal(parse_suite, {**SUITE, key: value}, "mine.toml")
    if suite is not None:
        assert parse_suite(suite.model_dump(mode="json"), "again") == suite


@given(
    key=st.sampled_from(GROUP), value=values, kind=st.sampled_from(["synthetic", "files", "dataset", "bundled", "none"])
)
@settings(max_examples=150)
def test_any_value_in_a_group_of_a_suite(key, value, kind):
    group = {**SUITE["data"][0], "kind": kind, key: value}
    result_or_refusal(parse_suite, {**SUITE, "data": [group]}, "mine.toml")


@given(content=st.binary(max_size=200) | st.sampled_from([b"a = " + b"[" * 20_000, b"\xff", b"name = [", b""]))
def test_any_bytes_as_a_file_of_settings(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("any") / "mine.toml"
    path.write_bytes(content)
    for read in (load_suite, load_recipe, read_fields):
        result_or_refusal(read, str(path))


@given(key=st.sampled_from([*GeneratorRecipe.model_fields, "extends", "other"]), value=values)
@settings(max_examples=150)
def test_any_value_in_a_recipe_of_volumes(key, value):
    result_or_refusal(load_recipe, {key: value})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('extends = "mine.toml"', "extends itself"),
        ('extends = "ablation-shape"\ndata = 3', "data: expected a table, got 3"),
        ('extends = "nosuch"', "unknown recipe 'nosuch'"),
        ('extends = "ablation-shape"\n[[phases]]\nsteps = 1\nlr = inf', "finite"),
    ],
)
def test_a_recipe_of_training_that_cannot_be_is_refused(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(InputError, match=message):
        load_any_recipe("mine.toml")
