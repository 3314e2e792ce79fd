"""Recipes: every packaged one is valid, every mistake is named."""

import pytest

from synthfm_env.errors import InputError
from synthfm_train.recipe import list_recipes, load_recipe


@pytest.mark.parametrize("name", list_recipes())
def test_packaged_recipes_load(name):
    assert load_recipe(name).name == name


def test_overrides_reach_into_phases():
    recipe = load_recipe("synthfm3d-nano", ("seed=7", "phases.0.steps=3", "data.recipe='ct'"))
    assert (recipe.seed, recipe.phases[0].steps, recipe.data.recipe) == (7, 3, "ct")


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("sed=7", "did you mean seed"),
        ("seed=-1", "seed"),
        ("seed", "key=value"),
        ("phases.9.steps=1", "phases.9.steps"),
        ("phases.0.stepz=1", "stepz"),
        ("architecture.image_size=100", "image_size"),
        ("architecture.embed_dims=8", "embed_dims"),
    ],
)
def test_a_bad_override_is_named(override, named):
    with pytest.raises(InputError, match=named):
        load_recipe("synthfm3d-nano", (override,))


def test_an_unknown_recipe_has_near_matches():
    with pytest.raises(InputError, match="did you mean synthfm3d-nano"):
        load_recipe("synthfm3d-nan")


def test_a_missing_or_broken_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"gone\.toml"):
        load_recipe(str(tmp_path / "gone.toml"))
    bad = tmp_path / "bad.toml"
    bad.write_text("name = [")
    with pytest.raises(InputError, match="not TOML"):
        load_recipe(str(bad))
