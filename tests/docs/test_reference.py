"""Tests that the documentation names everything that a user can ask for."""

import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
from typer.main import get_command

from synthfm_agents import list_clickers
from synthfm_agents.registry import _CLICKERS
from synthfm_bench.cli.app import app
from synthfm_bench.suite import parse_suite
from synthfm_env.envs.registration import ENVS
from synthfm_env.segmenters import list_segmenters

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


@pytest.mark.parametrize("name", list_segmenters())
def test_the_table_of_segmenters_has_every_one(name):
    table = (DOCS / "reference" / "segmenters" / "index.md").read_text(encoding="utf-8")
    named = [
        code.partition(":")[0]
        for first in re.findall(r"^\| (\[`[^|]+)", table, re.M)
        for code in re.findall("`(.*?)`", first)
    ]
    assert any(fnmatch(name, pattern) for pattern in named)


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


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.stem)
def test_a_page_includes_only_files_that_exist(page):
    """The form on one line, ``--8<-- "FILE"``, is code to a formatter, which splits it: pages then show it as text."""
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"^--8 ", text, re.M)
    included = re.findall(r'^--8<--\n(.*?)\n--8<--$|^--8<-- "(.*?)"$', text, re.M | re.S)
    assert all((DOCS.parent / file).is_file() for pair in included for file in pair if file)
