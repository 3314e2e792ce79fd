"""Tests the reward of a step."""

import copy

import gymnasium as gym
import pytest
from ball_segmenter import BallSegmenter, BreakingSegmenter
from gymnasium.envs.registration import EnvSpec

from synthfm_env import InputError, VolumeEnv
from synthfm_env.metrics import nsd

CLICKS = [[5, 10, 9, 1], [5, 12, 11, 1], [4, 8, 7, 1], [4, 1, 1, 0]]


def play(volume, reward, actions=(*CLICKS, [0, 0, 0, 2]), segmenter=None, **kwargs):
    """Return the rewards of the actions, and the last info and observation."""
    env = VolumeEnv(
        image=volume,
        structure="box",
        segmenter=segmenter or BallSegmenter(),
        reward=reward,
        reveal_truth=True,
        **kwargs,
    )
    env.reset(seed=0)
    steps = []
    for action in actions:
        steps.append(env.step(action))
        if steps[-1][2] or steps[-1][3]:
            break
    return [step[1] for step in steps], steps[-1][4], steps[-1][0]


def test_gain_in_nsd_sums_to_the_final_nsd(volume):
    for tolerance, given in ((2.0, "nsd_gain"), (1.0, {"name": "nsd_gain", "tolerance_mm": 1.0})):
        rewards, info, observation = play(volume, given)
        final = nsd(observation["mask"], info["truth"], volume.spacing, tolerance)
        assert 0.1 < sum(rewards) == pytest.approx(final)
        assert rewards[0] > 0
        assert rewards[-2:] == [0.0, 0.0], "a click that changes nothing, and to stop"


def test_a_target_is_worth_one_when_it_is_reached(volume):
    reached, info, _ = play(volume, "target_reached", target_dice=0.69)
    assert info["outcome"] == "target_reached"
    assert len(reached) > 1
    assert reached == [0.0] * (len(reached) - 1) + [1.0]
    missed, info, _ = play(volume, "target_reached", target_dice=0.99)
    assert info["outcome"] == "stopped"
    assert sum(missed) == 0.0


@pytest.mark.parametrize("name", ["dice_gain", "nsd_gain", "target_reached"])
def test_prices_of_clicks_and_of_slice_changes(volume, name):
    free, _, _ = play(volume, name, target_dice=1.0)
    paid, _, _ = play(volume, {"name": name, "click_price": 0.01, "slice_price": 0.5}, target_dice=1.0)
    costs = [before - after for before, after in zip(free, paid, strict=True)]
    assert costs == pytest.approx([0.01, 0.01, 0.51, 0.01, 0.0])


@pytest.mark.parametrize("name", ["dice_gain", "nsd_gain", "target_reached"])
def test_a_click_that_the_segmenter_fails_on_is_paid_and_leaves_no_score(volume, name):
    reward = {"name": name, "click_price": 0.25}
    rewards, info, _ = play(volume, reward, segmenter=BreakingSegmenter(), target_dice=1.0)
    assert info["outcome"] == "model_error"
    assert len(rewards) == 3
    assert sum(rewards) == pytest.approx(-3 * 0.25)
    assert rewards[-1] == (-0.25 if name == "target_reached" else pytest.approx(-sum(rewards[:-1]) - 0.75))


def test_the_second_episode_is_worth_what_the_first_was(volume):
    reward = {"name": "nsd_gain", "slice_price": 0.125}
    env = VolumeEnv(image=volume, structure="box", segmenter=BallSegmenter(), reward=reward)
    episodes = []
    for _ in range(2):
        env.reset()
        episodes.append([env.step(action)[1] for action in CLICKS])
    assert episodes[0] == episodes[1]


def test_priced_rewards_go_into_the_spec_and_stay_as_given(make):
    reward = {"name": "nsd_gain", "tolerance_mm": 1, "click_price": 0.01}
    kept = copy.deepcopy(reward)
    env = make("SynthFM/Volume-v0", reward=reward)
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    assert reward == kept == again.spec.kwargs["reward"]


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        ("nsd", "unknown reward 'nsd'"),
        ("target_reached", "give target_dice"),
        ({"click_price": 1}, "name under 'name'"),
        (None, "expected a name, or a dict"),
        ({"name": "dice_gain", "click_prise": 0.1}, "did you mean click_price"),
        ({"name": "dice_gain", "tolerance_mm": 0.1}, "parameter of the reward dice_gain 'tolerance_mm'"),
        ({"name": "dice_gain", "click_price": -0.1}, "click_price is -0.1"),
        ({"name": "nsd_gain", "tolerance_mm": "2 mm"}, "tolerance_mm is '2 mm'"),
    ],
)
def test_wrong_rewards_are_explained(volume, reward, message):
    with pytest.raises(InputError, match=message):
        play(volume, reward)
