"""Tests vector environments: each answers as alone, and clicks reach the segmenter in one batch."""

import json

import gymnasium as gym
import numpy as np
import pytest
from ball_segmenter import BallSegmenter, BallSession
from env_cases import IDS
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from synthfm_env import InputError, VolumeEnv, make_segmenter, save_volume
from synthfm_env.envs.vector_env import PromptVectorEnv

COUNT = 3
MODES = [mode.value for mode in AutoresetMode]
every_id = pytest.mark.parametrize("env_id", IDS)


class BatchSegmenter(BallSegmenter):
    """Notes how many clicks came together."""

    def __init__(self):
        super().__init__()
        self.batches = []

    def add_many(self, sessions, clicks):
        self.batches.append(len(clicks))
        return super().add_many(sessions, clicks)


class PickySession(BallSession):
    def add(self, click):
        if click.zyx[0] == 9:
            raise RuntimeError("not there")
        return super().add(click)


class PickySegmenter(BallSegmenter):
    """Fails on clicks in the last slice of the small volume."""

    def start(self, image, spacing):
        return PickySession(self, image)


def boxes(volume, count=COUNT, **kwargs):
    given = {"image": volume, "structure": "box", "segmenter": BatchSegmenter(), "max_clicks": 4, **kwargs}
    return gym.make_vec("SynthFM/Volume-v0", num_envs=count, **given)


def rollout(vector, seed, steps):
    """Drive at random over several episodes, resetting where the mode leaves that to the caller."""
    vector.action_space.seed(seed)
    returned = [vector.reset(seed=seed)]
    for _ in range(steps):
        returned.append(vector.step(vector.action_space.sample()))
        ended = returned[-1][2] | returned[-1][3]
        if vector.metadata["autoreset_mode"] is AutoresetMode.DISABLED and ended.any():
            returned.append(vector.reset(options={"reset_mask": ended}))
    vector.close()
    return returned


@every_id
@pytest.mark.parametrize("mode", MODES)
def test_it_returns_what_gymnasiums_own_does(make, env_id, mode):
    kwargs = make(env_id, max_clicks=3, reveal_truth=True).spec.kwargs
    mine = gym.make_vec(env_id, num_envs=COUNT, autoreset_mode=mode, **kwargs)
    assert isinstance(mine, PromptVectorEnv)
    theirs = SyncVectorEnv([lambda: gym.make(env_id, **kwargs) for _ in range(COUNT)], autoreset_mode=mode)
    assert mine.metadata["autoreset_mode"] is theirs.metadata["autoreset_mode"] is AutoresetMode(mode)
    assert mine.observation_space == theirs.observation_space
    assert mine.action_space == theirs.action_space
    assert data_equivalence(rollout(mine, 3, 7), rollout(theirs, 3, 7), exact=True)


@pytest.mark.slow
def test_the_packaged_model_answers_a_batch_as_it_answers_one():
    kwargs = {"shape": [4, 32, 32], "recipe": "clear", "segmenter": make_segmenter("synthfm3d-nano", device="cpu")}
    vector = gym.make_vec("SynthFM/Synthetic3D-v0", num_envs=2, reveal_truth=True, **kwargs)
    singles = [gym.make("SynthFM/Synthetic3D-v0", reveal_truth=True, **kwargs) for _ in range(2)]
    _, infos = vector.reset(seed=5)
    for single, seed in zip(singles, (5, 6), strict=True):
        single.reset(seed=seed)
    inside = np.array([np.argwhere(truth)[[0, -1, 7]] for truth in infos["truth"]])
    for step, sign in enumerate((1, 1, 0)):
        actions = np.hstack([inside[:, step], [[sign]] * 2])
        observations, rewards, *_, infos = vector.step(actions)
        for i, single in enumerate(singles):
            observation, reward, *_, info = single.step(actions[i])
            # Sums over a batch may be rounded otherwise, which can turn a voxel whose logit is all but 0.
            assert (observations["mask"][i] != observation["mask"]).mean() < 1e-3
            assert (rewards[i], infos["dice"][i]) == pytest.approx((reward, info["dice"]), abs=0.01)
            assert observations["clicks"][i].tolist() == observation["clicks"].tolist()


def test_one_segmenter_gets_the_clicks_of_a_step_together(volume):
    vector = boxes(volume)
    segmenter = vector.envs[0].segmenter
    assert all(env.segmenter is segmenter for env in vector.envs)
    vector.reset(seed=0)
    vector.step([[5, 10, 9, 1]] * 3)
    vector.step([[5, 10, 9, 1], [0, 0, 0, 2], [4, 4, 4, 0]])
    _, rewards, terminations, truncations, _ = vector.step([[5, 10, 9, 1]] * 3)
    assert segmenter.batches == [3, 2, 2], "one stopped, and begins anew while the others click"
    assert (rewards[1], terminations[1], truncations[1]) == (0.0, False, False)
    vector.step([[0, 0, 0, 2]] * 3)
    assert segmenter.batches == [3, 2, 2], "no click, no question"


def test_one_failure_ends_one_episode(volume):
    vector = boxes(volume, segmenter=PickySegmenter())
    alone = [VolumeEnv(image=volume, structure="box", segmenter=PickySegmenter(), max_clicks=4) for _ in range(COUNT)]
    vector.reset(seed=0)
    for env in alone:
        env.reset(seed=0)
    for actions in ([[5, 10, 9, 1]] * 3, [[5, 4, 9, 1], [9, 1, 1, 1], [4, 10, 9, 0]]):
        observations, rewards, terminations, _, infos = vector.step(actions)
        for i, (env, action) in enumerate(zip(alone, actions, strict=True)):
            observation, reward, terminated, _, info = env.step(action)
            assert (observations["mask"][i] == observation["mask"]).all()
            assert (rewards[i], terminations[i]) == (reward, terminated)
            assert {key: infos[key][i] for key in info} == info
    assert infos["outcome"].tolist() == ["running", "model_error", "running"]
    *_, infos = vector.step([[5, 10, 9, 1]] * 3)
    assert infos["outcome"].tolist() == ["running"] * 3
    assert infos["clicks_used"].tolist() == [3, 0, 3]


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ([[5, 10, 9, 1], [5, 10, 9, 1], [5, 10, 20, 1]], r"which is not in MultiDiscrete\(\[10, 24, 20, 3\]\)"),
        ([[5.0, 10.0, 9.0, 1.0]] * 3, r"which is not in MultiDiscrete"),
        ([[5, 10, 9, 1]] * 2, r"actions of shape \(2, 4\), expected \(3, 4\)"),
        ([5, 10, 9, 1], r"actions of shape \(4,\)"),
        (None, r"actions of shape \(\)"),
    ],
)
def test_actions_outside_the_space_are_refused_and_change_nothing(volume, actions, message):
    vector = boxes(volume)
    vector.reset(seed=0)
    with pytest.raises(InputError, match=message):
        vector.step(actions)
    assert vector.step([[5, 10, 9, 1]] * 3)[-1]["clicks_used"].tolist() == [1, 1, 1]


def test_step_before_reset_is_refused(volume):
    with pytest.raises(gym.error.ResetNeeded):
        boxes(volume).step([[5, 10, 9, 1]] * 3)
    vector = boxes(volume, autoreset_mode="Disabled")
    vector.reset()
    vector.step([[0, 0, 0, 2]] * 3)
    with pytest.raises(gym.error.ResetNeeded):
        vector.step([[5, 10, 9, 1]] * 3)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"count": 0}, "num_envs is 0"),
        ({"count": "2"}, "num_envs is '2': expected a number of environments"),
        ({"count": 1.5}, "num_envs is 1.5"),
        ({"copy": "no"}, "copy is 'no': expected True or False"),
        ({"autoreset_mode": 3}, "unknown autoreset mode"),
        ({"autoreset_mode": "NextSteps"}, "did you mean NextStep"),
        ({"max_clicks": 0}, "max_clicks is 0"),
    ],
)
def test_wrong_arguments_are_explained(volume, kwargs, message):
    with pytest.raises(InputError, match=message):
        boxes(volume, **kwargs)


@pytest.mark.parametrize("workers", ["2", 1.5, -1, True])
def test_a_wrong_number_of_workers_is_explained(workers):
    with pytest.raises(InputError, match=f"workers is {workers!r}: expected None or a number of processes"):
        gym.make_vec("SynthFM/Synthetic3D-v0", num_envs=2, shape=[8, 32, 32], segmenter="geodesic", workers=workers)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP, AutoresetMode.DISABLED])
def test_a_mode_may_be_gymnasiums_own(volume, mode):
    assert boxes(volume, autoreset_mode=mode).metadata["autoreset_mode"] is mode


def test_a_volume_may_be_described_by_a_table(volume, tmp_path):
    save_volume(volume, tmp_path / "image.nii.gz", tmp_path / "label.nii.gz")
    about = {"image": str(tmp_path / "image.nii.gz"), "label": str(tmp_path / "label.nii.gz")}
    vector = gym.make_vec("SynthFM/Volume-v0", num_envs=2, image=about, segmenter=BallSegmenter())
    single = gym.make("SynthFM/Volume-v0", image=about, segmenter=BallSegmenter())
    assert (vector.reset(seed=3)[0]["image"][0] == single.reset(seed=3)[0]["image"]).all()
    assert vector.envs[0].volume is vector.envs[1].volume


@every_id
def test_spec_survives_json(make, env_id):
    kwargs = make(env_id, reveal_truth=True).spec.kwargs
    vector = gym.make_vec(env_id, num_envs=2, autoreset_mode="SameStep", **kwargs)
    text = vector.spec.to_json()
    assert json.loads(text)["kwargs"]["vectorization_mode"] == "vector_entry_point"
    again = gym.make_vec(gym.envs.registration.EnvSpec.from_json(text))
    assert again.num_envs == 2
    assert data_equivalence(rollout(vector, 1, 4), rollout(again, 1, 4), exact=True)


def test_closing_frees_every_session(volume):
    vector = boxes(volume)
    vector.reset(seed=0)
    sessions = [env.session for env in vector.envs]
    vector.close()
    assert not any(session.open for session in sessions)


def test_render_gives_a_picture_of_each_environment(volume):
    vector = boxes(volume, render_mode="rgb_array")
    vector.reset(seed=0)
    vector.step([[5, 10, 9, 1], [1, 4, 4, 1], [8, 4, 4, 0]])
    frames = vector.render()
    assert len({frame.tobytes() for frame in frames}) == len(frames) == COUNT
