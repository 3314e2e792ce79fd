"""Tests properties of every wrapper: Gymnasium's checks, specs, copies, seeds."""

import json
import pickle
import warnings

import gymnasium as gym
import pytest
from env_cases import rollout
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env, data_equivalence

from synthfm_env.envs import wrappers
from synthfm_env.envs.wrappers import (
    CandidateClicks,
    ContinuousAction,
    EffortCost,
    ErrorMap,
    FlatAction,
    NoisyClicks,
    PackedMask,
    RecordSteps,
    SliceLockedAction,
    UndoAction,
)

WRAPPED = {
    "CandidateClicks": lambda env, path: CandidateClicks(env, k=5, oracle=True),
    "ContinuousAction": lambda env, path: ContinuousAction(env),
    "EffortCost": lambda env, path: EffortCost(env, per_click=0.01, per_slice=0.02, per_mm=0.001),
    "ErrorMap": lambda env, path: ErrorMap(env),
    "FlatAction": lambda env, path: FlatAction(env),
    "NoisyClicks": lambda env, path: NoisyClicks(env, jitter_mm=2.0, wrong_sign=0.2, missed_mm3=20.0),
    "PackedMask": lambda env, path: PackedMask(env),
    "RecordSteps": lambda env, path: RecordSteps(env, path),
    "SliceLockedAction": lambda env, path: SliceLockedAction(env, index=3),
    "UndoAction": lambda env, path: UndoAction(env),
    "all": lambda env, path: RecordSteps(
        EffortCost(ContinuousAction(NoisyClicks(UndoAction(env), jitter_mm=1.5)), per_mm=0.01), path
    ),
    "slice by slice": lambda env, path: FlatAction(SliceLockedAction(UndoAction(env))),
}


@pytest.fixture(params=WRAPPED)
def wrapped(request, make, tmp_path):
    """Return a function that makes a wrapped environment, each with a file of its own to record to."""
    files = iter(range(9))

    def make_wrapped(**kwargs):
        env = make("SynthFM/Volume-v0", reveal_truth=True, max_clicks=4, **kwargs)
        return WRAPPED[request.param](env, tmp_path / f"{next(files)}.jsonl")

    return make_wrapped


def test_all_wrappers_are_tried():
    others = {"VectorCandidateClicks", "unpack_mask"}  # of a vector environment, and a function
    assert set(wrappers.__all__) - others <= set(WRAPPED)


def test_gymnasiums_checker_finds_nothing(wrapped):
    env = wrapped()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*different from the unwrapped version")
        check_env(env, skip_render_check=True, skip_close_check=True)


def test_two_copies_with_one_seed_do_the_same(wrapped):
    assert data_equivalence(rollout(wrapped(), 5, 30), rollout(wrapped(), 5, 30), exact=True)


def test_the_spec_makes_it_again(wrapped, tmp_path):
    env = wrapped()
    expected = rollout(env, 2)
    for file in tmp_path.glob("*.jsonl"):
        file.unlink()
    text = env.spec.to_json()
    json.loads(text)
    again = gym.make(EnvSpec.from_json(text))
    assert again.spec.to_json() == text
    assert data_equivalence(expected, rollout(again, 2), exact=True)
    again.close()


def test_a_pickled_copy_goes_on_with_the_same_episodes(wrapped):
    env = wrapped()
    env.reset(seed=4)
    copy = pickle.loads(pickle.dumps(env))
    assert data_equivalence(env.reset(), copy.reset(), exact=True)
    env.action_space.seed(0)
    action = env.action_space.sample()
    assert data_equivalence(env.step(action), copy.step(action), exact=True)


def test_info_keeps_its_keys(wrapped):
    returned = rollout(wrapped(), 3, 20)
    assert len({frozenset(step[-1]) for step in returned}) == 1


def test_episodes_end(wrapped):
    env = wrapped()
    env.reset(seed=0)
    env.action_space.seed(0)
    ends = [env.step(env.action_space.sample())[2:4] for _ in range(1)]
    while not any(ends[-1]):
        ends.append(env.step(env.action_space.sample())[2:4])
    assert len(ends) <= 4
