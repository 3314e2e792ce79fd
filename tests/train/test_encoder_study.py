"""Tests the study that compares options of the image encoder: equal training, and tables of paired differences."""

import pytest
from study_import import imported_study

from synthfm_train.sam2.recipe import load_recipe


@pytest.fixture(scope="module")
def study():
    with imported_study("encoder_dice") as module:
        yield module


def test_options_of_a_recipe_train_on_the_same_clips(study):
    for name in ("ablation-encoder", "ablation-trunk"):
        recipes = [load_recipe(*option) for option in study.OPTIONS.values() if option.recipe == name]
        assert len(recipes) > 1
        assert all((r.data, r.phases, r.seed, r.ema) == (recipes[0].data, recipes[0].phases, 0, 0.97) for r in recipes)


def test_the_table_of_cases_shows_means_and_paired_differences(study):
    def runs(*levels):
        return [{"cases": {f"case {i}": [level + i / 100] * 10 for i in range(10)}} for level in levels]

    results = {"packaged": runs(0.5), "none": runs(0.6, 0.8)}
    table = study.table_of_cases(results, [f"case {i}" for i in range(10)], ("packaged",)).splitlines()
    assert table[0] == "| option | Dice@1 | Dice@3 | Dice@5 | Dice@10 | from packaged |"
    assert table[2] == "| packaged | 0.545 | 0.545 | 0.545 | 0.545 |  |"
    assert table[3].startswith("| none | 0.745 | 0.745 | 0.745 | 0.745 | +0.200 (")
