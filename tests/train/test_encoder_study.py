"""Tests the study that compares options of the image encoder: equal training, and tables of paired differences."""

import importlib
import sys
from pathlib import Path

import pytest

from synthfm_train.sam2.recipe import load_recipe

STUDIES = Path(__file__).parents[2] / "benchmarks" / "studies"


@pytest.fixture(scope="module")
def study():
    sys.path.insert(0, str(STUDIES))  # it imports its neighbours, as a script does
    yield importlib.import_module("encoder_dice")
    sys.path.remove(str(STUDIES))


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
