"""Tests the names that ``import synthfm_env`` provides, and the modules that it does not import."""

import ast
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import synthfm_env


def test_import_registers_the_envs_without_torch_or_sam2():
    code = (
        "import sys, gymnasium, synthfm_env; "
        "heavy = {'torch', 'sam2', 'skimage', 'nibabel', 'scipy'} & set(sys.modules); "
        "assert not heavy, heavy; "
        "assert 'SynthFM/Volume-v0' in gymnasium.registry"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", synthfm_env.__all__)
def test_every_public_name_can_be_imported(name):
    assert getattr(synthfm_env, name).__name__ == name
    assert name in dir(synthfm_env)


def test_type_checkers_and_imports_see_the_same_names():
    tree = ast.parse(Path(synthfm_env.__file__).read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert set(synthfm_env.__all__) <= imported
    assert set(synthfm_env._MODULES) <= set(synthfm_env.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="Volumen"):
        _ = synthfm_env.Volumen


def test_version_is_the_installed_one():
    try:
        installed = metadata.version("synthfm_env")
    except metadata.PackageNotFoundError:
        pytest.skip("synthfm_env is on the path but not installed")
    assert synthfm_env.__version__ == installed
