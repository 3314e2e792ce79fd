"""Any parameter of any packaged clicker: it is built, or refused in one line that names it."""

import inspect

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import result_or_refusal

from synthfm_agents import list_clickers, make_clicker
from synthfm_agents.registry import _CLICKERS
from synthfm_env.errors import InputError

PLACES = [(name, key) for name, kind in _CLICKERS.items() for key in [*inspect.signature(kind).parameters, "zz"]]
values = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.integers())


@given(place=st.sampled_from(PLACES), value=values)
@settings(max_examples=200)
def test_any_value_of_any_parameter(place, value):
    name, key = place
    result_or_refusal(lambda: make_clicker(name, **{key: value}))


@pytest.mark.parametrize("name", [*list_clickers(), "human:anna"])
def test_a_parameter_that_a_clicker_lacks_is_refused(name):
    with pytest.raises(InputError, match=f"clicker '{name}' has no parameter 'zzz'; it takes"):
        make_clicker(name, zzz=1)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"jitter_mm": "a"}, "got jitter_mm='a': expected a finite number; it takes jitter_mm=3.0, wrong_sign=0.02"),
        ({"wrong_sign": True}, "got wrong_sign=True: expected a finite number"),
        ({"jitter_mm": float("nan")}, "got jitter_mm=nan: expected a finite number"),
        ({"jitter_mm": 10**400}, "expected a finite number"),
    ],
)
def test_a_number_that_is_none_is_refused(params, message):
    with pytest.raises(InputError, match=message):
        make_clicker("human-noise-v1", **params)
