"""Tests every registered id against the expectations of Gymnasium's users."""

import json
import pickle
import warnings

import gymnasium as gym
import numpy as np
import pytest
from env_cases import IDS, rollout
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env, data_equivalence

from synthfm_env.envs.registration import register_envs

every_id = pytest.mark.parametrize("env_id", IDS)


def test_these_are_all_ids_and_registering_again_changes_nothing():
    before = {key: spec for key, spec in gym.registry.items() if key.startswith("SynthFM/")}
    assert sorted(before) == sorted(IDS)
    register_envs()
    assert all(gym.registry[key] is spec for key, spec in before.items())


@every_id
@pytest.mark.parametrize("reveal_truth", [False, True])
def test_gymnasiums_checker_finds_nothing(make, env_id, reveal_truth):
    env = make(env_id, reveal_truth=reveal_truth).unwrapped
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*render_mode 'human' cannot show a window")  # no display here
        check_env(env)


@every_id
def test_two_copies_with_one_seed_do_the_same(make, env_id):
    first, second = make(env_id, reveal_truth=True), make(env_id, reveal_truth=True)
    assert data_equivalence(rollout(first, 5), rollout(second, 5), exact=True)


@every_id
def test_seeds_differ(make, env_id):
    env = make(env_id)
    assert not data_equivalence(rollout(env, 1), rollout(env, 2), exact=True)


@every_id
def test_reset_without_a_seed_goes_on(make, env_id):
    env = make(env_id, reveal_truth=True)
    seen = {env.reset(seed=0)[1]["truth"].tobytes()} | {env.reset()[1]["truth"].tobytes() for _ in range(8)}
    assert len(seen) > 1


@every_id
def test_a_pickled_copy_goes_on_with_the_same_episodes(make, env_id):
    env = make(env_id, reveal_truth=True)
    env.reset(seed=4)
    env.step([0, 5, 5, 1])
    copy = pickle.loads(pickle.dumps(env))
    assert copy.unwrapped.segmenter is env.unwrapped.segmenter
    with pytest.raises(gym.error.ResetNeeded):
        copy.step([0, 5, 5, 1])
    assert data_equivalence(env.reset(), copy.reset(), exact=True)
    assert data_equivalence(env.step([0, 6, 6, 1]), copy.step([0, 6, 6, 1]), exact=True)


@every_id
def test_spec_survives_json(make, env_id):
    env = make(env_id, max_clicks=3, target_dice=0.9, protocol="ritm-3d-v1")
    text = env.spec.to_json()
    json.loads(text)
    again = gym.make(EnvSpec.from_json(text))
    assert again.spec.to_json() == text
    assert data_equivalence(rollout(env, 2), rollout(again, 2), exact=True)


@every_id
def test_spaces_hold_the_grid(make, env_id):
    env = make(env_id, max_clicks=7)
    observation, _ = env.reset(seed=0)
    assert env.action_space.nvec.tolist() == [*observation["image"].shape, 3]
    assert observation["clicks"].shape == (7, 4)
    assert observation["mask"].dtype == observation["image"].dtype == np.uint8


@every_id
def test_ends_after_max_clicks(make, env_id):
    env = make(env_id, max_clicks=4)
    env.reset(seed=1)
    ends = [env.step([0, i, i, i % 2])[2:4] for i in range(4)]
    assert ends == [(False, False)] * 3 + [(False, True)]
    with pytest.raises(gym.error.ResetNeeded, match=r"env\.reset\(\)"):
        env.step([0, 0, 0, 1])


@every_id
def test_pictures_keep_their_size(make, env_id):
    env = make(env_id, render_mode="rgb_array")
    env.reset(seed=3)
    frames = [env.render()]
    for i in (4, 9):
        env.step([0, i, i, 1])
        frames.append(env.render())
    env.reset()
    frames.append(env.render())
    assert len({frame.shape for frame in frames}) == 1
    assert all(frame.dtype == np.uint8 for frame in frames)
    assert (frames[0] != frames[1]).any()
    assert (frames[1] != frames[2]).any()


@every_id
def test_text_is_one_line(make, env_id):
    env = make(env_id, render_mode="ansi")
    _, info = env.reset(seed=3)
    assert info["case_id"] in env.render()
    env.step([0, 4, 5, 1])
    line = env.render()
    assert "\n" not in line
    assert "click 1/10 0,4,5,+" in line
    assert "Dice" in line
