"""Tests that recorded Minari data sets load and rebuild the environment and its images from their seeds."""

import pickle
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from synthfm_agents import Clicker
from synthfm_bench.suite import parse_suite
from synthfm_env import InputError, make_segmenter
from synthfm_env.envs.actions import stop_action
from synthfm_env.envs.wrappers import unpack_mask
from synthfm_env.errors import UserFacingError
from synthfm_env.segmenters.shared import shared_segmenter

minari = pytest.importorskip("minari", reason="needs the extra minari")
SUITE = {
    "name": "tiny",
    "segmenters": ["geodesic"],
    "clickers": ["ritm-3d-v1"],
    "clicks": 3,
    "start": "click",
    "data": [{"kind": "synthetic", "name": "made up", "shape": [8, 24, 24], "cases": 2}],
}


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    from synthfm_bench.execution.minari_recorder import record_suite

    return dict(record_suite(parse_suite(SUITE, "here"), "synthfm/tiny"))


def test_experts_and_random_clicks_are_recorded_and_rebuilt(recorded):
    assert recorded == {"synthfm/tiny/made-up-ritm-3d-v1-v0": 2, "synthfm/tiny/made-up-random-v0": 2}
    dataset = minari.load_dataset("synthfm/tiny/made-up-ritm-3d-v1-v0")
    env = dataset.recover_environment()
    seeds = {data["id"]: data["seed"] for data in dataset.storage.get_episode_metadata([0, 1])}
    for episode in dataset.iterate_episodes():
        observation, info = env.reset(seed=int(seeds[episode.id]))
        truth = info["truth"]
        for step, action in enumerate(episode.actions):
            assert (observation["mask"] == episode.observations["mask"][step]).all()
            assert (observation["clicks"] == episode.observations["clicks"][step]).all()
            observation, reward, *_ = env.step(action)
            assert reward == pytest.approx(episode.rewards[step])
        mask = unpack_mask(episode.observations["mask"][-1], truth.shape)
        assert set(np.unique(mask)) <= {0, 1}
        assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) == pytest.approx(
            env.unwrapped.observe()[1]["dice"]
        )


def test_it_loads_in_a_fresh_process(recorded):
    script = (
        "import minari; d = minari.load_dataset('synthfm/tiny/made-up-random-v0'); "
        "print(d.total_episodes, type(d.recover_environment().unwrapped).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.split() == ["2", "SyntheticEnv"], done.stderr


def test_names_that_are_taken_or_wrong_are_refused(recorded):
    from synthfm_bench.execution.minari_recorder import record_suite

    suite = parse_suite(SUITE, "here")
    with pytest.raises(InputError, match=r"Minari holds synthfm/tiny/made-up-random-v0 already"):
        next(record_suite(suite, "synthfm/tiny"))
    for name in ("syn thfm", "a", "", "/a", "a/", "a//b", "synthfm\n"):
        with pytest.raises(InputError, match="expected names of letters"):
            next(record_suite(suite, name))
    group = SUITE["data"][0]
    same = parse_suite({**SUITE, "data": [group, {**group, "name": "made-up"}]}, "here")
    with pytest.raises(InputError, match="would both be synthfm/other/made-up-ritm-3d-v1-v0"):
        next(record_suite(same, "synthfm/other"))


class TiredClicker(Clicker):
    name = "tired"

    def reset(self, seed):
        super().reset(seed)
        TiredClicker.episodes = getattr(TiredClicker, "episodes", 0) + 1

    def act(self, observation, info):
        if TiredClicker.episodes == 2:
            raise RuntimeError("too tired")
        return stop_action()


@pytest.fixture
def recording(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    from synthfm_bench.execution.minari_recorder import record_suite

    return lambda **changes: record_suite(parse_suite({**SUITE, **changes}, "here"), "synthfm/tiny")


def test_start_and_segmenter_are_the_suites(recording):
    model = {"use": "synthfm3d-nano", "params": {"preset": "stock"}}
    names = recording(segmenters=[model], start_protocol="deepest-voxels-v1", clickers=["random"], clicks=1)
    next(names)
    env = minari.load_dataset("synthfm/tiny/made-up-random-v0").recover_environment()
    inner = env.unwrapped
    assert inner.start.protocol == "deepest-voxels-v1"
    assert inner.segmenter is shared_segmenter(model)
    assert type(inner.segmenter) is type(make_segmenter("synthfm3d-nano", preset="stock"))
    assert pickle.loads(pickle.dumps(env)).unwrapped.segmenter is inner.segmenter


def test_a_start_mask_has_the_suites_dice(recording):
    next(
        recording(
            segmenters=["prompted_segmenter:PromptedSegmenter"], start="mask", start_dice=0.7, clickers=["random"]
        )
    )
    env = minari.load_dataset("synthfm/tiny/made-up-random-v0").recover_environment()
    assert env.unwrapped.start.dice == 0.7


def test_clicks_of_one_prompt_are_refused_before_anything_is_played(recording):
    with pytest.raises(InputError, match="clicker synthfm-v2 gives all its clicks as one prompt"):
        next(recording(clickers=["ritm-3d-v1", "synthfm-v2"]))
    assert not minari.list_local_datasets()


def test_a_failing_clicker_is_named_and_the_episodes_before_it_are_kept(recording):
    with pytest.raises(UserFacingError) as caught:
        list(recording(clickers=[f"{__name__}:TiredClicker"]))
    assert re.search(r"clicker .*:TiredClicker failed on case .* of made up: .*too tired", str(caught.value))
    assert "1 episode before it" in str(caught.value)
    (name,) = minari.list_local_datasets()
    assert minari.load_dataset(name).total_episodes == 1


def test_the_example_clones_the_expert(recorded):
    example = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "behavioural_cloning.py"))
    features, masks, choices = example["states"]("synthfm/tiny/made-up-ritm-3d-v1-v0")
    assert len(features) == len(choices) == 6
    assert masks[torch.arange(6), choices].all()
    assert example["clone"](features, masks, choices, steps=200)[1] == 1.0
