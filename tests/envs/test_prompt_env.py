"""Tests episodes: rewards, ends, errors, shared and copied arrays."""

import copy

import gymnasium as gym
import numpy as np
import pytest
from ball_segmenter import BallSegmenter, BreakingSegmenter, CroppingSegmenter
from env_cases import BALL
from gymnasium.utils.env_checker import data_equivalence

from synthfm_env import InputError, SyntheticEnv, VolumeEnv
from synthfm_env.metrics import dice

INFO_KEYS = {"case_id", "clicks_used", "dice", "error", "modality", "outcome", "protocol", "start", "structure"}


@pytest.fixture
def env(volume):
    """An environment on the larger box, whose middle is (5, 10, 9)."""
    return VolumeEnv(image=volume, structure="box", segmenter=BallSegmenter())


@pytest.mark.parametrize("seed", range(5))
def test_rewards_sum_to_the_final_dice(make, seed):
    env = make("SynthFM/Synthetic3D-v0", reveal_truth=True)
    env.reset(seed=seed)
    env.action_space.seed(seed)
    total, over = 0.0, False
    while not over:
        observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
        total, over = total + reward, terminated or truncated
    assert total == pytest.approx(info["dice"])
    assert info["dice"] == pytest.approx(dice(observation["mask"] > 0, info["truth"]))


@pytest.mark.parametrize(
    ("segmenter", "message"),
    [
        ({}, "expected a table of use"),
        ({"use": 3}, "expected a table of use"),
        ({"use": "geodesic", "params": 3}, "expected a table of use"),
        ({"use": "geodesic", "preset": "fast"}, "unknown key of segmenter 'preset'"),
        ({"use": "geodesic", "params": {"presets": "fast"}}, "unknown parameter.*did you mean preset"),
        ({"use": "geodesic", "params": {"options": {1, 2}}}, "give numbers and texts"),
    ],
)
def test_a_table_of_another_form_is_no_segmenter(volume, segmenter, message):
    with pytest.raises(InputError, match=message):
        VolumeEnv(image=volume, segmenter=segmenter)


def test_a_click_is_answered(env):
    observation, info = env.reset(seed=0)
    assert not observation["mask"].any()
    assert info == {
        "case_id": "boxes",
        "clicks_used": 0,
        "dice": 0.0,
        "error": "",
        "modality": "other",
        "outcome": "running",
        "protocol": "",
        "start": "empty",
        "structure": "box",
    }
    assert env.prediction is None
    observation, reward, terminated, truncated, info = env.step([5, 10, 9, 1])
    assert observation["mask"][5, 10, 9] == 1
    assert observation["clicks"][0].tolist() == [5, 10, 9, 1]
    assert (observation["clicks"][1:] == -1).all()
    assert observation["spacing"].tolist() == [3.0, 1.0, 1.0]
    assert 0.3 < reward == info["dice"] < 1
    assert not terminated
    assert not truncated
    assert (env.prediction.mask == observation["mask"]).all()


def test_the_agent_may_stop(env):
    env.reset()
    env.step([5, 10, 9, 1])
    score = env.step([5, 10, 9, 0])[4]["dice"]
    _, reward, terminated, truncated, info = env.step([0, 0, 0, 2])
    assert (reward, terminated, truncated) == (0.0, True, False)
    assert (info["outcome"], info["dice"], info["clicks_used"]) == ("stopped", score, 2)


def test_reaching_the_target_terminates_also_at_the_last_click(volume):
    env = VolumeEnv(image=volume, structure=1, segmenter=BallSegmenter(), target_dice=0.5, max_clicks=1)
    env.reset()
    *_, terminated, truncated, info = env.step([5, 10, 9, 1])
    assert info["dice"] >= 0.5
    assert (terminated, truncated, info["outcome"]) == (True, False, "target_reached")


def test_a_negative_first_click_and_a_repeated_click_are_allowed(env):
    env.reset()
    observation, reward, *_ = env.step([5, 10, 9, 0])
    assert reward == 0
    assert not observation["mask"].any()
    env.step([5, 10, 9, 1])
    observation, reward, *_ = env.step([5, 10, 9, 1])
    assert reward == 0
    assert observation["clicks"][:3].tolist() == [[5, 10, 9, 0], [5, 10, 9, 1], [5, 10, 9, 1]]


def test_a_failing_segmenter_ends_the_episode_and_keeps_no_score(volume):
    segmenter = BreakingSegmenter()
    env = VolumeEnv(image=volume, structure="box", segmenter=segmenter, render_mode="ansi")
    env.reset()
    env.step([5, 10, 9, 1])
    good = env.step([5, 11, 9, 1])
    observation, reward, terminated, truncated, info = env.step([5, 10, 10, 1])
    assert good[4]["dice"] > 0
    assert (reward, terminated, truncated) == (pytest.approx(-good[4]["dice"]), True, False)
    assert (info["outcome"], info["error"]) == ("model_error", "RuntimeError: out of luck")
    assert (info["dice"], info["clicks_used"]) == (0.0, 3)
    assert not observation["mask"].any()
    assert env.prediction is None
    assert "model_error: RuntimeError: out of luck" in env.render()
    with pytest.raises(gym.error.ResetNeeded):
        env.step([5, 10, 10, 1])
    failed = segmenter.session
    _, info = env.reset()
    assert (info["outcome"], info["error"]) == ("running", "")
    assert not failed.open, "a session that failed is not trusted with another episode"
    assert segmenter.started == 2


def test_a_mask_on_another_grid_is_a_model_error(volume):
    env = VolumeEnv(image=volume, structure="box", segmenter=CroppingSegmenter())
    env.reset()
    info = env.step([5, 10, 9, 1])[4]
    assert info["outcome"] == "model_error"
    assert "(10, 24, 20)" in info["error"]
    assert "(10, 23, 20)" in info["error"]


@pytest.mark.parametrize(
    "action",
    [
        [10, 0, 0, 1],
        [0, 24, 0, 1],
        [0, 0, 20, 1],
        [0, 0, -1, 1],
        [0, 0, 0, 3],
        [0, 0, 0],
        [1.0, 2.0, 3.0, 1.0],
        "here",
        None,
        np.zeros((1, 4), int),
    ],
)
def test_actions_outside_the_space_are_refused_and_change_nothing(env, action):
    env.reset()
    with pytest.raises(InputError, match=r"which is not in MultiDiscrete\(\[10, 24, 20, 3\]\)"):
        env.step(action)
    assert env.step([5, 10, 9, 1])[4]["clicks_used"] == 1


def test_step_and_render_before_reset_are_refused(volume):
    env = VolumeEnv(image=volume, structure="box", segmenter=BallSegmenter(), render_mode="ansi")
    with pytest.raises(gym.error.ResetNeeded):
        env.step([0, 0, 0, 1])
    with pytest.raises(gym.error.ResetNeeded):
        env.render()


def test_render_without_a_mode_warns(env):
    env.reset()
    with pytest.warns(UserWarning, match="render_mode="):
        assert env.render() is None


def test_info_has_the_same_keys_at_every_step_and_the_truth_only_on_request(volume):
    for reveal, keys in ((False, INFO_KEYS), (True, INFO_KEYS | {"truth"})):
        env = VolumeEnv(image=volume, structure="box", segmenter=BallSegmenter(), reveal_truth=reveal, max_clicks=2)
        infos = [env.reset()[1], env.step([5, 10, 9, 1])[4], env.step([1, 1, 1, 0])[4]]
        assert [set(info) for info in infos] == [keys] * 3


def test_what_is_returned_can_be_overwritten_without_harm(volume):
    env = VolumeEnv(image=volume, structure="box", segmenter=BallSegmenter(), reveal_truth=True)
    clean = VolumeEnv(image=volume, structure="box", segmenter=BallSegmenter(), reveal_truth=True)
    for action in (None, [5, 10, 9, 1], [5, 4, 4, 0]):
        returned = env.reset() if action is None else env.step(action)
        expected = clean.reset() if action is None else clean.step(action)
        assert data_equivalence(returned, expected, exact=True)
        for array in (*returned[0].values(), returned[-1]["truth"]):
            array[...] = 1


def test_one_encode_serves_all_episodes_on_a_volume(volume):
    segmenter = BallSegmenter()
    env = VolumeEnv(image=volume, segmenter=segmenter)
    for structure in ("box", "rod", "box"):
        env.reset(options={"structure": structure})
        env.step([5, 10, 9, 1])
    assert segmenter.started == 1
    assert len(segmenter.session.clicks) == 1


def test_environments_share_one_segmenter_of_a_name(volume):
    first, second = (VolumeEnv(image=volume, segmenter=BALL) for _ in range(2))
    assert first.segmenter is second.segmenter
    given = BallSegmenter(radius=2)
    assert VolumeEnv(image=volume, segmenter=given).segmenter is given


def test_two_environments_on_one_segmenter_do_not_meet(volume):
    segmenter = BallSegmenter()
    first, second, alone = (VolumeEnv(image=volume, structure="box", segmenter=segmenter) for _ in range(3))
    first.reset()
    second.reset()
    first.step([5, 10, 9, 1])
    second.step([1, 19, 3, 1])
    alone.reset()
    alone.step([5, 10, 9, 1])
    assert data_equivalence(first.step([5, 4, 9, 0]), alone.step([5, 4, 9, 0]), exact=True)


def test_close_may_come_twice_frees_the_session_and_reset_opens_another(env):
    env.reset()
    session = env.segmenter.session
    env.close()
    env.close()
    assert not session.open
    with pytest.raises(gym.error.ResetNeeded):
        env.step([5, 10, 9, 1])
    env.reset()
    assert env.step([5, 10, 9, 1])[4]["dice"] > 0


def test_a_deep_copy_draws_the_same_episodes(volume):
    env = VolumeEnv(image=volume, segmenter=BALL)
    env.reset(seed=1)
    twin = copy.deepcopy(env)
    assert [env.reset()[1] for _ in range(5)] == [twin.reset()[1] for _ in range(5)]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"segmenter": "geodesik"}, "did you mean geodesic"),
        ({"reward": "dice"}, "did you mean dice_gain"),
        ({"render_mode": "rgb"}, "did you mean rgb_array"),
        ({"max_clicks": 0}, "max_clicks is 0"),
        ({"target_dice": 0}, "target_dice is 0"),
        ({"target_dice": 80}, "target_dice is 80"),
        ({"structure": "lung"}, "'lung' is not in the label; it holds 1 \\(box\\), 7 \\(rod\\)"),
        ({"structure": 0}, "0 is not in the label"),
        ({"modality": "CT"}, "give label and modality in it"),
    ],
)
def test_wrong_arguments_are_explained(volume, kwargs, message):
    with pytest.raises(InputError, match=message):
        VolumeEnv(**{"image": volume, "segmenter": BallSegmenter(), **kwargs})


def test_wrong_reset_options_are_explained(env):
    with pytest.raises(InputError, match="did you mean structure"):
        env.reset(options={"strukture": 1})
    with pytest.raises(InputError, match="'lung' is not in the label"):
        env.reset(options={"structure": "lung"})
    with pytest.raises(gym.error.ResetNeeded):
        env.step([5, 10, 9, 1])


def test_the_same_case_again_is_drawn_and_encoded_once():
    env = SyntheticEnv(shape=(12, 32, 32), segmenter=BallSegmenter())
    first, _ = env.reset(seed=5)
    again, _ = env.reset(seed=5)
    assert np.array_equal(first["image"], again["image"])
    assert env.segmenter.started == 1
    env.reset(seed=6)
    assert env.segmenter.started == 2
