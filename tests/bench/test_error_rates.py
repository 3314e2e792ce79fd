"""Tests the statistics on studies of known truth, with the script of the error-rates experiment."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "studies" / "error_rates.py"


@pytest.fixture(scope="module")
def error_rates():
    spec = importlib.util.spec_from_file_location("error_rates", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("cases", [10, 20, 50])
def test_equal_entrants_are_called_different_in_five_percent(error_rates, cases):
    rates = error_rates.false_differences(cases, studies=2000, seed=cases)
    assert 0.04 <= rates["Wilcoxon, cases"] <= 0.065
    assert 0.03 <= rates["paired t, cases"] <= 0.065  # skewed differences of few cases make it cautious
    assert rates["paired t, rows"] > 0.15  # what counting rows as cases would do


@pytest.mark.slow
def test_holm_keeps_false_winners_below_five_percent(error_rates):
    rates = error_rates.false_winners(20, studies=1000, seed=20)
    assert rates["unadjusted"] > 0.2
    assert rates["after Holm"] <= 0.065


def test_intervals_cover_and_detectable_differences_show(error_rates):
    assert error_rates.coverage(30, studies=60, seed=1)["BCa"] >= 0.85
    assert error_rates.power(12, pairs=1, studies=400, seed=2) == pytest.approx(0.8, abs=0.06)
