"""Tests that workflows, hooks, templates and the README agree."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), flags=re.MULTILINE))
README = (ROOT / "README.md").read_text("utf-8")
TEXTS = [*sorted((ROOT / ".github" / "workflows").glob("*.yml")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_make_targets_that_are_named_exist(path):
    named = re.findall(r"^(?:\s*- run: )?make ([a-z-]+)", path.read_text("utf-8"), flags=re.MULTILINE)
    assert set(named) <= TARGETS


def test_workflows_test_every_python_that_the_package_supports():
    oldest = PROJECT["requires-python"].removeprefix(">=")
    assert f'"{oldest}"' in (ROOT / ".github" / "workflows" / "tests.yml").read_text("utf-8")


def test_links_of_the_readme_lead_to_files():
    links = re.findall(r"\]\(([^)#\s]+)\)", README)
    assert [link for link in links if not link.startswith("https://") and not (ROOT / link).exists()] == []


def test_the_readme_has_one_small_animation_and_a_short_board():
    (picture,) = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README)
    assert (ROOT / picture).stat().st_size < 2 * 2**20
    boards = [block for block in re.findall(r"^```\n(.*?)^```", README, re.M | re.S) if "Dice@5" in block]
    assert len(boards) == 1
    assert boards[0].count("\n") <= 15


def test_no_source_has_a_file_name_that_readers_guessed_wrong():
    wrong = {
        *("recall", "imprint", "products", "chains", "refresh", "zoom", "planes", "turns", "evidence", "parts"),
        *("start", "initial", "task", "drafts", "drawn", "own_session", "tidy", "normal", "pointing", "memory"),
    }
    folders = ("synthfm_env", "agents", "train", "benchmarks")
    assert sorted(path for name in folders for path in (ROOT / name).rglob("*.py") if path.stem in wrong) == []
