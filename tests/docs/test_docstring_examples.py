"""Tests that each public callable has an ``Example:`` in its docstring, and runs all of them."""

import doctest
import importlib
import inspect
import sys
from pathlib import Path

import pytest

import synthfm_agents
import synthfm_agents.testing
import synthfm_env
import synthfm_env.envs.wrappers
import synthfm_env.metrics
import synthfm_env.testing

ROOT = Path(__file__).parents[2]
SOURCES = {"synthfm_env": ROOT, "synthfm_agents": ROOT / "agents", "synthfm_bench": ROOT / "benchmarks"}
MODULES = [
    ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
    for package, root in SOURCES.items()
    for path in sorted((root / package).rglob("*.py"))
    if ">>> " in path.read_text("utf-8")
]
PUBLIC = [
    (module.__name__, name)
    for module in (
        synthfm_env,
        synthfm_env.metrics,
        synthfm_env.envs.wrappers,
        synthfm_env.testing,
        synthfm_agents,
        synthfm_agents.testing,
    )
    for name in module.__all__
    if callable(getattr(module, name))
] + [
    ("synthfm_bench.suite", "list_suites"),
    ("synthfm_bench.suite", "load_suite"),
    ("synthfm_bench.analysis.statistics", "estimate"),
    ("synthfm_bench.analysis.statistics", "signed_rank"),
    ("synthfm_bench.analysis.statistics", "holm"),
]
BASES = {"PromptEnv", "Seconds", "Session"}
"""Built by others, never by a user: their methods and subclasses have the examples."""


@pytest.mark.parametrize(("module", "name"), PUBLIC)
def test_a_public_callable_has_an_example(module, name):
    if name not in BASES:
        text = inspect.getdoc(getattr(importlib.import_module(module), name)) or ""
        assert "Example:\n    >>> " in text


@pytest.mark.filterwarnings("ignore::UserWarning")  # Gymnasium's advice on spaces
@pytest.mark.parametrize("module", MODULES)
def test_the_examples_of_a_module_run(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if module == "synthfm_env.volumes.bundled":
        pytest.importorskip("nilearn")
    importlib.import_module(module)
    assert doctest.testmod(sys.modules[module]).failed == 0
