"""Tests the environments with libraries around Gymnasium: stable-baselines3's checker, and films."""

import warnings

import gymnasium as gym
import numpy as np
import pytest
from env_cases import IDS

from synthfm_env.envs.wrappers import ContinuousAction, FlatAction, SliceLockedAction

every_id = pytest.mark.parametrize("env_id", IDS)

# What stable-baselines3 remarks on observations that its ready-made networks were not made for; none is an error.
ADVICE = (
    "Your observation clicks has an unconventional shape",
    "The minimal resolution for an image is 36x36 for the default `CnnPolicy`",
    "your observation space mask is an image but the upper and lower bounds are not in",
)


@every_id
@pytest.mark.parametrize(
    "wrap",
    [lambda env: env, ContinuousAction, lambda env: FlatAction(SliceLockedAction(env))],
    ids=["plain", "continuous", "flat"],
)
def test_stable_baselines3s_checker_has_advice_but_no_complaint(make, env_id, wrap):
    checker = pytest.importorskip("stable_baselines3.common.env_checker", reason="needs the extra rl")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        checker.check_env(wrap(make(env_id)))
    remarks = [str(warning.message) for warning in caught]
    assert [remark for remark in remarks if not any(known in remark for known in ADVICE)] == []


def test_stable_baselines3_trains_on_an_id_as_it_is(make):
    sb3 = pytest.importorskip("stable_baselines3", reason="needs the extra rl")
    env = ContinuousAction(make("SynthFM/Synthetic2D-v0", max_clicks=3))
    model = sb3.PPO("MultiInputPolicy", env, n_steps=8, batch_size=8, n_epochs=1, seed=0, device="cpu").learn(8)
    observation, _ = env.reset(seed=1)
    action, _ = model.predict(observation)
    assert env.action_space.contains(action)


@every_id
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # moviepy leaves its pipes to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_record_video_films_every_step(make, tmp_path, env_id):
    pytest.importorskip("moviepy", reason="needs the extra video")
    from moviepy import VideoFileClip

    env = make(env_id, render_mode="rgb_array", max_clicks=3)
    film = gym.wrappers.RecordVideo(env, str(tmp_path / "films"), episode_trigger=lambda _: True)
    film.reset(seed=0)
    frames = [env.render()]
    for i in (4, 7, 9):
        film.step(np.array([0, i, i, 1]))
        frames.append(env.render())
    film.close()
    (path,) = tmp_path.glob("films/*.mp4")
    with VideoFileClip(str(path)) as clip:
        height, width = frames[0].shape[:2]
        assert clip.fps == env.metadata["render_fps"]
        assert clip.n_frames == len(frames)
        assert clip.size == [width, height]
        for number, frame in enumerate(frames):
            shown = clip.get_frame((number + 0.5) / clip.fps)
            assert np.abs(shown.astype(int) - frame).mean() < 12, "compression blurs, no more"
