"""The documentation names everything that a user can ask for."""

import re
from pathlib import Path

import pytest

from synthfm_agents import list_clickers
from synthfm_agents.registry import _CLICKERS
from synthfm_env.envs.registration import ENVS

DOCS = Path(__file__).parents[1] / "docs"
REFERENCE = "\n".join(page.read_text() for page in sorted((DOCS / "reference").rglob("*.md")))
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
