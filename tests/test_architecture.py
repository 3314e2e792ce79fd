"""Tests the import graph of SAM 2."""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
SAM2 = "synthfm_env.segmenters.sam2"


def imported(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    return found | {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}


def test_the_modules_of_sam2_have_at_most_seven_levels_without_a_circle():
    folder = ROOT / SAM2.replace(".", "/")
    modules = {
        str(path.relative_to(ROOT).with_suffix("")).replace("/", "."): imported(path)
        for path in folder.rglob("*.py")
        if path.stem != "__init__"
    }

    @cache
    def level(module: str) -> int:
        assert SAM2 not in modules[module], f"{module} imports the package that re-exports it"
        return 1 + max((level(other) for other in modules[module] if other in modules), default=0)

    assert max(level(module) for module in modules) <= 7
