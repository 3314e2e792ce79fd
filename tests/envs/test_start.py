"""Tests the start prompts of an episode: a click, a box or a mask made from the truth."""

import gymnasium as gym
import numpy as np
import pytest
from ball_segmenter import BallSegmenter, BallSession
from env_cases import IDS, small_volume
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import SyncVectorEnv
from prompted_segmenter import PromptedSegmenter

from synthfm_agents import make_clicker
from synthfm_env import InputError, SyntheticEnv, VolumeEnv
from synthfm_env.envs.damaged_mask import damaged_mask
from synthfm_env.envs.synthetic_env import ANATOMY
from synthfm_env.envs.wrappers import UndoAction
from synthfm_env.metrics import dice
from synthfm_env.synthesis import SynthFM3D, list_recipes

every_id = pytest.mark.parametrize("env_id", IDS)


class FailingSegmenter(BallSegmenter):
    """Fails on every click."""

    def start(self, image, spacing):
        self.session = BallSession(self, image)
        self.session.add = lambda click: 1 / 0
        return self.session


PROMPTED = "prompted_segmenter:PromptedSegmenter"
starts = pytest.mark.parametrize("start", ["click", "box", "mask"])


def boxes(volume, **kwargs):
    given = {"image": volume, "structure": "box", "segmenter": PromptedSegmenter(), "reveal_truth": True, **kwargs}
    return VolumeEnv(**given)


@every_id
@starts
def test_gymnasiums_checker_finds_nothing_and_the_spec_survives_json(make, env_id, start):
    env = make(env_id, segmenter=PROMPTED, start=start, goal="structure")
    check_env(env.unwrapped, skip_render_check=True)
    again = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    assert data_equivalence(env.reset(seed=3), again.reset(seed=3), exact=True)
    assert data_equivalence(env.step([0, 5, 5, 1]), again.step([0, 5, 5, 1]), exact=True)


@every_id
@starts
def test_a_vector_environment_starts_as_single_ones_do(make, env_id, start):
    kwargs = make(env_id, segmenter=PROMPTED, start=start, goal="structure", max_clicks=2).spec.kwargs
    mine = gym.make_vec(env_id, num_envs=2, autoreset_mode="SameStep", **kwargs)
    theirs = SyncVectorEnv([lambda: gym.make(env_id, **kwargs)] * 2, autoreset_mode="SameStep")
    assert data_equivalence(mine.reset(seed=1), theirs.reset(seed=1), exact=True)
    for i in range(3):
        assert data_equivalence(mine.step([[0, 4, i, 1]] * 2), theirs.step([[0, 4, i, 1]] * 2), exact=True)


@pytest.mark.parametrize(
    ("protocol", "clicker"), [("deepest-mm-v1", "synthfm-mm-v1"), ("deepest-voxels-v1", "ritm-3d-v1")]
)
@pytest.mark.parametrize("structure", ["box", "rod"])
def test_the_start_click_is_the_first_click_of_its_protocol(volume, protocol, clicker, structure):
    env = boxes(volume, structure=structure, start="click", start_protocol=protocol)
    observation, info = env.reset(seed=0)
    rule = make_clicker(clicker)
    rule.reset(0)
    empty, empty_info = boxes(volume, structure=structure).reset(seed=0)
    assert observation["clicks"][0].tolist() == rule.act(empty, empty_info).tolist()
    assert info["start"] == f"click {protocol}"


def test_a_start_click_is_answered_and_costs_no_click(volume):
    env = boxes(volume, start="click", max_clicks=2)
    observation, info = env.reset(seed=0)
    assert observation["clicks"].shape == (3, 4)
    assert observation["mask"].any()
    assert info["clicks_used"] == 0
    assert info["dice"] == pytest.approx(dice(observation["mask"] > 0, info["truth"]))
    assert info["dice"] > 0
    rewards = [env.step([5, 8, 8, 1])[1]]
    observation, reward, terminated, truncated, last = env.step([5, 14, 13, 0])
    assert (terminated, truncated, last["clicks_used"]) == (False, True, 2)
    assert sum([*rewards, reward]) == pytest.approx(last["dice"] - info["dice"])
    assert (observation["clicks"][:, 0] >= 0).all()


def test_uniform_start_clicks_are_in_the_structure_and_differ(volume):
    env = boxes(volume, start="click", start_protocol="uniform-v1")
    clicks = set()
    for seed in range(10):
        observation, info = env.reset(seed=seed)
        z, y, x, positive = observation["clicks"][0].tolist()
        assert positive == 1
        assert info["truth"][z, y, x]
        clicks.add((z, y, x))
    assert len(clicks) > 5


def test_a_start_click_cannot_be_taken_back(volume):
    env = UndoAction(boxes(volume, start="click", max_clicks=4))
    first, _ = env.reset(seed=0)
    env.step([0, 1, 1, 1])
    for _ in range(2):
        observation, *_ = env.step([0, 0, 0, 3])
        assert (observation["mask"] == first["mask"]).all()
        assert (observation["clicks"] == first["clicks"]).all()


def test_a_box_is_tight(volume):
    observation, info = boxes(volume, start="box").reset(seed=0)
    (z, y, x), stop = observation["box"].tolist()
    inside = np.zeros_like(info["truth"])
    inside[z : stop[0], y : stop[1], x : stop[2]] = True
    assert (inside == info["truth"]).all(), "the structure is a box itself"
    assert info["dice"] == 1.0
    assert info["outcome"] == "running", "a start prompt ends no episode"


@pytest.mark.parametrize("wanted", [0.5, 0.7, 0.9])
def test_a_damaged_mask_has_the_stated_dice(wanted):
    env = SyntheticEnv(
        shape=(16, 48, 48), segmenter=PromptedSegmenter(), start="mask", start_dice=wanted, reveal_truth=True
    )
    for seed in range(5):
        observation, info = env.reset(seed=seed)
        assert dice(observation["start_mask"], info["truth"]) == pytest.approx(wanted, abs=0.03)
        assert info["start"] == f"mask damaged-v1 {wanted}"


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 30, 30), (6, 20, 20)])
@pytest.mark.parametrize("filled", ["voxel", "whole"])
def test_any_structure_can_be_damaged(shape, filled):
    truth = np.full(shape, filled == "whole")
    truth[tuple(n // 2 for n in shape)] = True
    mask = damaged_mask(truth, (3.0, 1.0, 1.0), 0.6, np.random.default_rng(0))
    assert mask.shape == shape
    assert mask.any()


def test_seeds_give_the_same_cases_whatever_the_start():
    cases = {
        kind: [
            SyntheticEnv(shape=(12, 32, 32), segmenter=PromptedSegmenter(), start=kind).reset(seed=seed)[1]["structure"]
            for seed in range(3)
        ]
        for kind in ("empty", "click", "mask")
    }
    assert cases["empty"] == cases["click"] == cases["mask"]


def test_a_failure_on_the_start_prompt_is_an_outcome_of_the_first_step(volume):
    env = boxes(volume, segmenter=FailingSegmenter(), start="click")
    observation, info = env.reset(seed=0)
    assert (info["outcome"], info["dice"]) == ("model_error", 0.0)
    assert not observation["mask"].any()
    _, reward, terminated, truncated, info = env.step([5, 8, 8, 1])
    assert (reward, terminated, truncated) == (0.0, True, False)
    assert info["error"].startswith("ZeroDivisionError")
    with pytest.raises(gym.error.ResetNeeded):
        env.step([5, 8, 8, 1])
    vector = gym.make_vec("SynthFM/Volume-v0", num_envs=2, image=volume, segmenter=FailingSegmenter(), start="click")
    vector.reset(seed=0)
    assert vector.step([[5, 8, 8, 1]] * 2)[2].all()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"start": "klick"}, "did you mean click"),
        (
            {"start": "box", "segmenter": BallSegmenter()},
            "start='box': segmenter 'ball' takes no box as a prompt; give",
        ),
        ({"start": "mask", "segmenter": "geodesic"}, "segmenter 'geodesic' takes no mask"),
        ({"start": "click", "start_protocol": "deepest"}, "did you mean deepest-"),
        ({"start_protocol": "tight-v1"}, "start_protocol is 'tight-v1', but start is 'empty'"),
        ({"start": "click", "start_dice": 0.5}, "start_dice is 0.5, but start is 'click'"),
        ({"start": "mask", "start_dice": 0}, "start_dice is 0: expected a Dice"),
        ({"goal": "organ"}, "unknown goal .organ.: known: structure"),
    ],
)
def test_wrong_arguments_are_explained(kwargs, message):
    with pytest.raises(InputError, match=message):
        boxes(small_volume(), **kwargs)


def test_the_goal_names_the_structure(volume):
    env = VolumeEnv(image=volume, segmenter=BallSegmenter(), goal="structure")
    for seed in range(6):
        observation, info = env.reset(seed=seed)
        assert env.goal_names()[observation["goal"]] == info["structure"]
    assert env.observation_space["goal"].n == 2


@pytest.mark.slow
@pytest.mark.parametrize("recipe", list_recipes())
def test_every_synthetic_structure_has_an_anatomy_of_the_list(recipe):
    generator = SynthFM3D(shape=(24, 48, 48), recipe=recipe)
    names = {name for seed in range(15) for name in generator.sample(seed).structures.values()}
    assert {name.rpartition(" ")[0] for name in names} <= set(ANATOMY)
