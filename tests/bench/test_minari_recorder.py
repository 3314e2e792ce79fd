"""Tests that recorded Minari data sets load and rebuild the environment and its images from their seeds."""

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from synthfm_bench.suite import parse_suite
from synthfm_env import InputError
from synthfm_env.envs.wrappers import unpack_mask

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
    with pytest.raises(InputError, match="expected names of letters"):
        next(record_suite(suite, "syn thfm"))


def test_the_example_clones_the_expert(recorded):
    example = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "behavioural_cloning.py"))
    features, masks, choices = example["states"]("synthfm/tiny/made-up-ritm-3d-v1-v0")
    assert len(features) == len(choices) == 6
    assert masks[torch.arange(6), choices].all()
    assert example["clone"](features, masks, choices, steps=200)[1] == 1.0
