import sys
from types import ModuleType

import pytest

from synthfm_agents import Clicker, make_clicker
from synthfm_agents.blind.random import RandomClicker
from synthfm_env import InputError, Segmenter, make_segmenter
from synthfm_env.plugins import is_plugin, load_class
from synthfm_env.segmenters.geodesic import Geodesic


class Abstract(Segmenter):
    name = "abstract"


class Raises(Geodesic):
    def __init__(self):
        raise OSError("no weights here")


class Refuses(Geodesic):
    def __init__(self):
        raise InputError("set MY_WEIGHTS to a folder")


class Own(Geodesic):
    name = "own"


class RaisingClicker(RandomClicker):
    def __init__(self):
        raise KeyError("table")


@pytest.fixture
def broken_module(tmp_path, monkeypatch):
    (tmp_path / "broken_plugin.py").write_text("this is no Python\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "broken_plugin"
    sys.modules.pop("broken_plugin", None)


@pytest.mark.parametrize(
    ("text", "is_path"),
    [
        ("package.module:Class", True),
        ("m:C", True),
        (":X", False),
        ("module:", False),
        (r"C:\weights.safetensors", False),
        ("C:/weights.safetensors", False),
        ("weights.safetensors", False),
        ("module:Class.attribute", False),
    ],
)
def test_only_module_colon_class_is_a_class_path(text, is_path):
    assert is_plugin(text) is is_path


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (":X", "expected package.module:Class"),
        ("no_such_module:X", "cannot be imported"),
        (f"{__name__}:Missing", "cannot be imported"),
        (f"{__name__}:sys", "is no subclass"),
        (f"{__name__}:RaisingClicker", "is no subclass"),
        (f"{__name__}:Abstract", "is abstract: it lacks start"),
    ],
)
def test_a_class_that_cannot_be_used_is_refused_in_one_line(path, message):
    with pytest.raises(InputError, match=message) as refused:
        load_class(path, Segmenter, "segmenter")
    assert path in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_module_that_is_no_python_is_refused_with_its_error(broken_module):
    with pytest.raises(InputError, match="SyntaxError"):
        load_class(f"{broken_module}:X", Segmenter, "segmenter")


def test_both_registries_build_own_classes():
    assert make_segmenter(f"{__name__}:Own").name == "own"
    assert isinstance(make_clicker("synthfm_agents.blind.random:RandomClicker"), Clicker)


@pytest.mark.parametrize("make", [make_segmenter, make_clicker])
@pytest.mark.parametrize("path", [":X", "no_such_module:X", f"{__name__}:sys"])
def test_both_registries_refuse_bad_paths(make, path):
    with pytest.raises(InputError):
        make(path)


def test_an_error_in_init_is_reported_as_a_users_mistake():
    with pytest.raises(InputError, match="cannot be built: OSError: no weights here"):
        make_segmenter(f"{__name__}:Raises")
    with pytest.raises(InputError, match="cannot be built: KeyError"):
        make_clicker(f"{__name__}:RaisingClicker")


def test_an_input_error_of_init_is_passed_on():
    with pytest.raises(InputError, match=r"^set MY_WEIGHTS to a folder$"):
        make_segmenter(f"{__name__}:Refuses")


@pytest.mark.parametrize("path", [r"C:\weights.safetensors", "C:/weights.pt"])
def test_a_windows_path_is_taken_for_a_file(path):
    with pytest.raises(InputError, match="do not exist"):
        make_segmenter(path)


def test_a_class_without_a_name_is_recorded_under_its_path(monkeypatch):
    module = ModuleType("own_clicker_module")
    module.Mine = type("Mine", (Clicker,), {"act": RandomClicker.act, "oracle": False, "__module__": module.__name__})
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert make_clicker("own_clicker_module:Mine").name == "own_clicker_module:Mine"
