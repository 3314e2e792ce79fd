"""Tests the contract of every clicker, and the registry."""

import numpy as np
import pytest
from coarse_segmenter import Coarse

from synthfm_agents import Clicker, list_clickers, make_clicker
from synthfm_env import InputError
from synthfm_env.envs.actions import read_action, stop_action

SHAPE = (6, 18, 20)
ASKING = ("uncertain", "blind-ppo-v1", "oracle-bc-v1", "oracle-ppo-v1", "greedy-v1")


def make(name):
    """Build a clicker; those that ask a segmenter get a small one."""
    if name == "second-opinion-v1":
        return make_clicker(name, opinions=Coarse())
    return make_clicker(name, segmenter=Coarse()) if name in ASKING else make_clicker(name)


class Stopper(Clicker):
    """Blind: stops at once."""

    def act(self, observation, info):
        return stop_action()


class Unfinished(Clicker):
    """Has no act."""


def scene(seed=0):
    """An observation and an info with the truth, without clicks."""
    truth = np.zeros(SHAPE, bool)
    truth[2:5, 4:12, 5:13] = True
    observation = {
        "image": np.random.default_rng(seed).integers(0, 255, SHAPE, np.uint8),
        "mask": np.zeros(SHAPE, np.uint8),
        "clicks": np.full((10, 4), -1, np.int32),
        "spacing": np.ones(3, np.float32),
    }
    return observation, {"truth": truth}


def sequence(name, seed, steps=20):
    clicker = make(name)
    clicker.reset(seed)
    observation, info = scene()
    return [clicker.act(observation, info).tolist() for _ in range(steps)]


@pytest.mark.parametrize("name", list_clickers())
def test_actions_are_in_the_action_space_and_a_seed_repeats_them(name):
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    actions = sequence(name, seed=3)
    for action in actions:
        read_action(action, SHAPE)
    assert sequence(name, seed=3) == actions
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


@pytest.mark.parametrize("name", list_clickers())
def test_observation_and_truth_are_not_changed(name):
    clicker = make(name)
    clicker.reset(0)
    observation, info = scene()
    clicker.act(observation, info)
    untouched, _ = scene()
    assert all((observation[key] == untouched[key]).all() for key in untouched)
    assert info["truth"].sum() == 3 * 8 * 8


@pytest.mark.parametrize("name", list_clickers())
def test_oracles_ask_for_the_truth_and_the_blind_do_without(name):
    clicker = make(name)
    clicker.reset(0)
    observation, _ = scene()
    if clicker.oracle:
        with pytest.raises(InputError, match="reveal_truth=True"):
            clicker.act(observation, {})
    else:
        clicker.act(observation, {})


def test_random_clicks_reach_the_whole_grid_and_both_signs():
    actions = np.array(sequence("random", seed=0, steps=4000))
    assert set(actions[:, 3]) == {0, 1}
    for axis, length in enumerate(SHAPE):
        share = np.bincount(actions[:, axis], minlength=length) / len(actions)
        assert share == pytest.approx(1 / length, abs=5 * (1 / length / len(actions)) ** 0.5)
    assert sequence("random", seed=1) != sequence("random", seed=2)


def test_descriptions_say_who_sees_the_truth():
    for name, line in list_clickers().items():
        assert line.startswith("Oracle: " if make_clicker(name).oracle else "Blind: ")


def test_an_own_clicker_is_built_by_its_path():
    clicker = make_clicker(f"{__name__}:Stopper")
    assert isinstance(clicker, Stopper)
    assert clicker.name == f"{__name__}:Stopper"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ritm-3d-v2", "did you mean ritm-3d-v1"),
        ("no_such_package.module:Thing", "No module named 'no_such_package'"),
        (f"{__name__}:Missing", "has no attribute 'Missing'"),
        (f"{__name__}:SHAPE", "is no subclass of synthfm_agents.Clicker"),
        (f"{__name__}:Unfinished", "is abstract: it lacks act"),
        (":Thing", "package.module:Class"),
    ],
)
def test_wrong_names_are_explained(name, message):
    with pytest.raises(InputError, match=message):
        make_clicker(name)


def test_unknown_parameters_are_named():
    with pytest.raises(InputError, match="radius"):
        make_clicker("random", radius=3)
