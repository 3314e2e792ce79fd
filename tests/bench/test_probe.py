"""Tests the description of models of the user's own before a run."""

import shlex
import sys
from pathlib import Path

from synthfm_bench.execution.probe import Broken, probe
from synthfm_bench.suite import Choice

MODEL = Path(__file__).parents[1] / "helpers" / "hostile_model.py"


def describe(mood: str, *arguments: Path) -> dict | Broken:
    command = shlex.join([sys.executable, str(MODEL), mood, *map(str, arguments)])
    return probe("segmenter", Choice(use=f"bridge:{command}"), time_limit_s=60, memory_limit_mib=None)


def test_a_model_that_fails_once_is_described(tmp_path: Path) -> None:
    assert isinstance(describe("dies-at-first-start", tmp_path / "died"), dict)
    assert (tmp_path / "died").exists()


def test_a_model_that_always_fails_is_broken() -> None:
    broken = describe("dies-at-first-start", Path("/no/such/folder/died"))
    assert isinstance(broken, Broken)
    assert broken.outcome == "model_error"
