"""Tests that the documentation names everything that a user can ask for."""

import re
import tomllib
from pathlib import Path

import pytest
from typer.main import get_command

from synthfm_agents import list_clickers
from synthfm_agents.registry import _CLICKERS
from synthfm_bench.cli.app import app
from synthfm_bench.suite import parse_suite
from synthfm_env.envs.registration import ENVS

DOCS = Path(__file__).parents[2] / "docs"
REFERENCE = "\n".join(page.read_text(encoding="utf-8") for page in sorted((DOCS / "reference").rglob("*.md")))
RENDERED = set(re.findall(r"^::: (\S+)$", REFERENCE, flags=re.MULTILINE))


@pytest.mark.parametrize("env_id", ENVS)
def test_the_reference_has_every_environment(env_id):
    entry_point, _ = ENVS[env_id]
    assert f"`{env_id}`" in REFERENCE
    assert entry_point.replace(":", ".") in RENDERED


@pytest.mark.parametrize("name", list_clickers())
def test_the_reference_has_every_clicker(name):
    kind = _CLICKERS[name]
    assert f"### {name}\n" in REFERENCE
    assert f"{kind.__module__}.{kind.__qualname__}" in RENDERED


def test_the_reference_has_every_command():
    page = (DOCS / "reference" / "commands.md").read_text(encoding="utf-8")
    assert [name for name in get_command(app).commands if f"| `synthfm {name} " not in page] == []


def test_the_suite_that_the_reference_shows_is_valid():
    (shown,) = re.findall(
        r"^```toml\n(.*?)^```", (DOCS / "reference" / "suites.md").read_text(encoding="utf-8"), re.M | re.S
    )
    assert parse_suite(tomllib.loads(shown), "suites.md").name == "mine"


def test_every_page_is_in_the_navigation():
    navigation = (DOCS.parent / "zensical.toml").read_text(encoding="utf-8")
    pages = [page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")]
    assert [page for page in pages if f'"{page}"' not in navigation] == []


def test_experiments_have_the_fixed_head():
    for page in (DOCS / "experiments").glob("2*.md"):
        head = page.read_text(encoding="utf-8")
        assert re.findall(r"^\| \*\*(\w[\w-]*)\*\* \|", head, re.M)[:4] == ["Question", "Set-up", "Result", "Decision"]
        assert f"({page.name})" in (DOCS / "experiments" / "index.md").read_text(encoding="utf-8")
