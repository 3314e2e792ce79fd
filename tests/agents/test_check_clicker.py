"""Tests that ``check_clicker`` accepts correct clickers and names each fault of others."""

import numpy as np
import pytest
from coarse_segmenter import Coarse

from synthfm_agents import Clicker, list_clickers, make_clicker
from synthfm_agents.testing import check_clicker
from synthfm_env import InputError
from synthfm_env.envs.actions import stop_action

ASKING = ("uncertain", "blind-ppo-v1", "oracle-bc-v1", "oracle-ppo-v1", "greedy-v1")


@pytest.mark.parametrize("name", list_clickers())
def test_packaged_clickers_pass(name):
    if name == "second-opinion-v1":
        check_clicker(make_clicker(name, opinions=Coarse()))
    else:
        check_clicker(make_clicker(name, segmenter=Coarse()) if name in ASKING else make_clicker(name))


class Good(Clicker):
    """Blind: stops at once."""

    name = "good"

    def act(self, observation, info):
        return stop_action()


class NoDocs(Good):
    __doc__ = None


class NoName(Good):
    """Blind: has no name."""

    name = ""


class GlobalChance(Good):
    """Blind: draws from NumPy's global source."""

    def act(self, observation, info):
        return np.append([np.random.randint(n) for n in observation["image"].shape], 1)  # noqa: NPY002


class OwnChance(Good):
    """Blind: draws from a generator that no seed reaches."""

    chance = np.random.default_rng(0)

    def act(self, observation, info):
        return np.append([self.chance.integers(n) for n in observation["image"].shape], 1)


class Forgetful(Good):
    """Blind: its reset seeds nothing."""

    def reset(self, seed):
        pass


class Cheat(Good):
    """Blind: looks at the truth all the same."""

    def act(self, observation, info):
        return np.append(np.argwhere(info["truth"])[0], 1)


class CarelessOracle(Cheat):
    """Oracle: does not ask for the truth as others do."""

    oracle = True


class BlindOracle(Good):
    """Oracle: needs no truth."""

    oracle = True


class Vandal(Good):
    """Blind: writes into what it is given."""

    def act(self, observation, info):
        observation["mask"][:] = 1
        return stop_action()


class Swapped(Good):
    """Blind: gives x, y, z."""

    def act(self, observation, info):
        depth, height, width = observation["image"].shape
        return np.array([width - 1, height - 1, depth - 1, 1])


class Floats(Good):
    """Blind: gives no integers."""

    def act(self, observation, info):
        return np.array([0.5, 1, 2, 1])


class Raises(Good):
    """Blind: fails."""

    def act(self, observation, info):
        raise RuntimeError("no idea")


class Nothing(Good):
    """Blind: returns nothing."""

    def act(self, observation, info):
        return None


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (NoDocs, "does not begin with 'Blind: '"),
        (NoName, "attribute name is ''"),
        (GlobalChance, "global random state"),
        (OwnChance, "same seed gave other actions"),
        (Forgetful, r"super\(\)\.reset\(seed\)"),
        (Cheat, "KeyError: 'truth'"),
        (CarelessOracle, r"take it from self\.truth\(info\)"),
        (BlindOracle, "acts without a truth"),
        (Vandal, "work on copies"),
        (Swapped, r"not in MultiDiscrete\(\[6, 18, 20, 3\]\)"),
        (Floats, "not in MultiDiscrete"),
        (Raises, "RuntimeError: no idea, with 0 clicks"),
        (Nothing, "returned no action"),
    ],
)
def test_a_mistake_of_a_clicker_is_named(kind, message):
    check_clicker(Good())
    with pytest.raises(InputError, match=message):
        check_clicker(kind())


def test_all_mistakes_are_named_at_once():
    class Two(Swapped):
        name = ""

    with pytest.raises(InputError, match=r"(?s)Two.*attribute name.*docstring.*MultiDiscrete"):
        check_clicker(Two())


def test_other_objects_are_refused_as_clickers():
    with pytest.raises(InputError, match="expected an instance of a subclass"):
        check_clicker(Good)
