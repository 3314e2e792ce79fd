"""Tests that imports point one way: benchmark, training, agents, environment."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ORDER = ("synthfm_env", "synthfm_agents", "synthfm_train", "synthfm_bench")
FOLDERS = {"synthfm_env": ROOT, "synthfm_agents": ROOT / "agents", "synthfm_train": ROOT / "train"}


def imported(source: str) -> set[str]:
    """Return the packages that a source imports anywhere, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("package", FOLDERS)
def test_a_package_imports_none_of_those_that_build_on_it(package):
    above = set(ORDER[ORDER.index(package) + 1 :])
    paths = sorted((FOLDERS[package] / package).rglob("*.py"))
    assert {path.name: found for path in paths if (found := imported(path.read_text("utf-8")) & above)} == {}


def test_imports_inside_functions_count():
    source = "def f():\n    from synthfm_bench.cli import app\n    import numpy as np"
    assert imported(source) == {"synthfm_bench", "numpy"}
