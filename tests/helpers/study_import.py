"""Imports the scripts of ``benchmarks/studies``, which are no package."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

_FOLDER = Path(__file__).parents[2] / "benchmarks" / "studies"


@contextmanager
def imported_study(name: str) -> Iterator[ModuleType]:
    """Import a study with its folder on the path, since it imports its neighbours as a script does."""
    sys.path.insert(0, str(_FOLDER))
    try:
        yield importlib.import_module(name)
    finally:
        sys.path.remove(str(_FOLDER))
