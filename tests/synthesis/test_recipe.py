import pytest

from synthfm_env.errors import InputError
from synthfm_env.synthesis import GeneratorRecipe, SynthFM3D, list_recipes, load_recipe


def test_the_named_recipes_load():
    assert {"any", "ct", "mr", "us", "other", "both", "shape-only", "boundary-only", "synthfm2d"} <= set(list_recipes())
    for name in list_recipes():
        assert load_recipe(name).name == name
    assert load_recipe("any") == GeneratorRecipe(name="any")
    assert load_recipe("shape-only").clusters == 0
    assert not load_recipe("boundary-only").shapes


def test_a_file_states_what_differs(tmp_path):
    path = tmp_path / "easy.toml"
    path.write_text('extends = "mr"\ncontrast = [0.5, 0.9]\n[groups]\norgan = 1.0\n')
    recipe = load_recipe(path)
    assert recipe.name == "easy"
    assert recipe.styles == {"MR": 1}
    assert recipe.contrast == (0.5, 0.9)
    assert recipe.groups == {"organ": 1.0}
    assert load_recipe({"extends": "ct", "targets": [2, 3]}).styles == {"CT": 1}


def test_a_recipe_survives_its_own_dump():
    for name in list_recipes():
        recipe = load_recipe(name)
        assert load_recipe(recipe.model_dump(mode="json")) == recipe


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"contarst": [0.1, 0.2]}, ["contarst", "contrast"]),
        ({"styles": {"XRAY": 1}}, ["styles.XRAY", "'CT', 'MR', 'US' or 'other'"]),
        ({"styles": {"CT": 0}}, ["styles", "above 0"]),
        ({"styles": {"CT": -1}}, ["styles.CT", "-1"]),
        ({"groups": {"liver": 1}}, ["groups.liver"]),
        ({"contrast": [0.9, 0.1]}, ["contrast", "[0.9, 0.1]"]),
        ({"contrast": [0, 0.1]}, ["contrast", "0 < low"]),
        ({"targets": [9, 5]}, ["targets", "[9, 5]"]),
        ({"clusters": 1.5}, ["clusters", "1.5"]),
        ({"cluster_count": [10, 17]}, ["cluster_count", "16"]),
        ({"thickness": [0.5, 2]}, ["thickness", "0.5"]),
        ({"shapes": False, "clusters": 0}, ["nothing to draw"]),
        ({"groups": {}}, ["groups"]),
        ({"name": "../up"}, ["name", "../up"]),
        ({"extends": "many"}, ["unknown recipe 'many'"]),
    ],
)
def test_a_bad_field_gets_one_clear_line(fields, words):
    with pytest.raises(InputError) as caught:
        load_recipe(fields)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_bad_names_and_files_get_one_clear_line(tmp_path):
    with pytest.raises(InputError, match="unknown recipe 'mri': did you mean mr"):
        SynthFM3D(recipe="mri")
    with pytest.raises(InputError, match="cannot be read"):
        load_recipe(tmp_path / "none.toml")
    bad = tmp_path / "bad.toml"
    bad.write_text("contrast = [")
    with pytest.raises(InputError, match="not valid TOML"):
        load_recipe(bad)
