"""Tests that every packaged recipe is valid and every mistake is named."""

import pytest

from synthfm_env.errors import InputError
from synthfm_env.segmenters.sam2 import Architecture, build_model
from synthfm_train.recipe_io import list_recipes
from synthfm_train.run import load_any_recipe
from synthfm_train.sam2.recipe import load_recipe


@pytest.mark.parametrize("name", list_recipes())
def test_packaged_recipes_load(name):
    assert load_any_recipe(name).name == name


def test_overrides_reach_into_phases():
    recipe = load_recipe("synthfm3d-nano", ("seed=7", "phases.0.steps=3", "data.recipe='ct'"))
    assert (recipe.seed, recipe.phases[0].steps, recipe.data.recipe) == (7, 3, "ct")


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("sed=7", "did you mean seed"),
        ("seed=-1", "seed"),
        ("seed", "key=value"),
        ("phases.99.steps=1", "phases.99.steps"),
        ("phases.0.stepz=1", r"key of phases\.0 'stepz': did you mean steps"),
        ("phases.first.steps=1", "phases count from 0"),
        ("data.shap=[8,32,32]", "key of data 'shap': did you mean shape"),
        ("data.shape=[8,4,4]", "H, W >= 16"),
        ("phases.8.shape=[8,4,4]", "H, W >= 16"),
        ("data.recipe=cta", "did you mean ct"),
        ("architecture.image_size=100", r"architecture\.image_size: .*multiple of 32, got 100"),
        ("architecture.embed_dims=8", "key of architecture 'embed_dims': did you mean embed_dim"),
        ("architecture=sam2.1-hiera-tin", "did you mean sam2.1-hiera-tiny"),
        ("phases.1.image_size=100", r"phases\.1\.image_size"),
        ("trains=decoder", "'all', 'decoder-from-scratch' or 'memory"),
        ("trains=memory+decoder", "freezes the image encoder"),
        ("loss=focal", "'synthfm3d', 'sam2' or 'dice'"),
        ("phases=[{steps=1,boxes=0.6,masks=0.6}]", "together at most 1"),
    ],
)
def test_a_bad_override_is_named(override, named):
    with pytest.raises(InputError, match=named):
        load_recipe("synthfm3d-nano", (override,))


def test_the_ablations_differ_in_the_generator_alone():
    recipes = [load_recipe(f"ablation-{part}") for part in ("shape", "boundary", "both")]
    assert [recipe.data.recipe for recipe in recipes] == ["shape-only", "boundary-only", "both"]
    same = [recipe.model_dump(exclude={"name": True, "data": {"recipe"}}) for recipe in recipes]
    assert same[0] == same[1] == same[2]


def test_the_paper_s_recipe_sees_ten_thousand_volumes():
    recipe = load_recipe("synthfm3d-hiera-tiny")
    assert sum(phase.steps * phase.volumes for phase in recipe.phases) == 10_000
    assert recipe.weights == recipe.architecture == "sam2.1-hiera-tiny"


def test_an_unknown_recipe_has_near_matches():
    with pytest.raises(InputError, match="did you mean synthfm3d-nano"):
        load_recipe("synthfm3d-nan")


def test_a_missing_or_broken_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"gone\.toml"):
        load_recipe(str(tmp_path / "gone.toml"))
    bad = tmp_path / "bad.toml"
    bad.write_text("name = [")
    with pytest.raises(InputError, match="is not valid TOML"):
        load_recipe(str(bad))


def test_the_small_sibling_of_synthfm2d_fits_in_eight_mebibytes():
    recipe = load_recipe("synthfm2d-small")
    assert isinstance(recipe.architecture, Architecture)
    bytes_in_half_precision = 2 * sum(parameter.numel() for parameter in build_model(recipe.architecture).parameters())
    assert bytes_in_half_precision < 8 * 2**20 - 2**16  # and a header
