"""Plays episodes with clickers, environment, generator and a segmenter together."""

import gymnasium as gym
import numpy as np
import pytest

import synthfm_env
from synthfm_agents import make_clicker

SHAPE = {"SynthFM/Synthetic3D-v0": [16, 48, 48], "SynthFM/Synthetic2D-v0": [1, 64, 64]}


def play(env_id, clicker_name, seeds, max_clicks=5):
    """Return the final Dice of each seed's episode and all outcomes."""
    env = gym.make(
        f"synthfm_env:{env_id}",
        shape=SHAPE[env_id],
        segmenter="geodesic",
        max_clicks=max_clicks,
        reveal_truth=True,
    )
    clicker = make_clicker(clicker_name)
    scores, outcomes = [], set()
    for seed in seeds:
        observation, info = env.reset(seed=seed)
        clicker.reset(seed)
        rewards, over = [], False
        while not over:
            action = clicker.act(observation, info)
            observation, reward, terminated, truncated, info = env.step(action)
            rewards.append(reward)
            over = terminated or truncated
        assert sum(rewards) == pytest.approx(info["dice"])
        scores.append(info["dice"])
        outcomes.add(info["outcome"])
    env.close()
    return scores, outcomes


@pytest.mark.parametrize("env_id", SHAPE)
def test_a_simulated_user_beats_chance(env_id):
    informed, outcomes = play(env_id, "ritm-3d-v1", range(4))
    blind, blind_outcomes = play(env_id, "random", range(4))
    assert outcomes <= {"max_clicks", "stopped"}
    assert blind_outcomes == {"max_clicks"}
    assert np.mean(informed) > np.mean(blind) + 0.1


@pytest.mark.parametrize("env_id", SHAPE)
def test_episodes_repeat_with_their_seed(env_id):
    assert play(env_id, "random", [3]) == play(env_id, "random", [3])


@pytest.mark.parametrize("env_id", SHAPE)
def test_a_negative_first_click_is_answered(env_id):
    env = gym.make(env_id, shape=SHAPE[env_id], segmenter="geodesic")
    env.reset(seed=0)
    info = env.step([0, 5, 5, 0])[4]
    assert (info["outcome"], info["error"]) == ("running", "")
    assert synthfm_env.Prediction is type(env.unwrapped.prediction)
