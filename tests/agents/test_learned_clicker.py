"""Tests the clicker ``ppo``: its input, its actions, its score against random clicks, and its training."""

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.stats import wilcoxon

from synthfm_agents import make_clicker
from synthfm_agents.blind.ppo.clicker import action_of
from synthfm_agents.blind.ppo.network import ACTIONS, CANDIDATES, FEATURES, OPEN, ClickNet, network_input
from synthfm_env import SynthFM3D, VolumeEnv, make_segmenter
from synthfm_env.envs.actions import STOP
from synthfm_env.envs.synthetic_env import fair_targets
from synthfm_env.metrics import dice

SCRIPT = Path(__file__).parents[2] / "agents" / "ppo_clicker.py"


def observation(shape=(12, 36, 36), clicks=(), seed=0, budget=5):
    rows = np.full((budget, 4), -1, np.int32)
    for i, click in enumerate(clicks):
        rows[i] = click
    image = np.random.default_rng(seed).integers(0, 60, shape, np.uint8)
    image[tuple(slice(n // 3, n // 3 + max(1, n // 4)) for n in shape)] += 150
    return {
        "image": image,
        "mask": np.zeros(shape, np.uint8),
        "clicks": rows,
        "spacing": np.ones(3, np.float32),
    }


def score(env, clicker):
    """Play a case blind; return the Dice averaged over all structures that could have been meant."""
    seen, _ = env.reset(seed=0)
    clicker.reset(0)
    ended = False
    while not ended:
        seen, _, terminated, truncated, _ = env.step(clicker.act(seen, {}))
        ended = terminated or truncated
    label = env.volume.label
    return np.mean([dice(seen["mask"] > 0, label == target) for target in fair_targets(label)])


def test_it_beats_chance_on_cases_that_it_has_not_seen():
    generator, segmenter = SynthFM3D(shape=(12, 36, 36), recipe="clear"), make_segmenter("geodesic")
    learned, chance, gains = make_clicker("ppo"), make_clicker("random"), []
    for seed in range(1000, 1024):
        env = VolumeEnv(image=generator.sample(seed), segmenter=segmenter, max_clicks=5)
        gains.append(score(env, learned) - score(env, chance))
    assert np.mean(gains) > 0.02
    assert wilcoxon(gains, zero_method="zsplit", alternative="greater").pvalue < 0.01


def test_it_runs_without_the_library_that_trained_it():
    code = (
        "import sys; sys.modules['stable_baselines3'] = None\n"
        "import numpy as np; from synthfm_agents import make_clicker\n"
        "assert 'torch' not in sys.modules, 'listing clickers costs nothing'\n"
        "scene = {'image': np.eye(9, dtype=np.uint8)[None].repeat(9, 0) * 200, 'mask': np.zeros((9, 9, 9), np.uint8),\n"
        "         'clicks': np.full((5, 4), -1), 'spacing': np.ones(3)}\n"
        "make_clicker('ppo').act(scene, {})\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("shape", [(12, 36, 36), (64, 100, 90), (1, 40, 52), (2, 3, 3), (5, 128, 7)])
def test_it_clicks_in_any_grid_and_no_voxel_twice(shape):
    clicker, clicks = make_clicker("ppo"), []
    clicker.reset(0)
    for _ in range(6):
        action = clicker.act(observation(shape, clicks, budget=8), {}).tolist()
        if action[3] == STOP:
            break
        assert action[:3] not in [click[:3] for click in clicks]
        assert all(0 <= i < n for i, n in zip(action[:3], shape, strict=True))
        clicks.append(action)
    assert clicks


def test_an_image_of_one_grey_is_no_reason_to_fail():
    flat = observation() | {"image": np.full((12, 36, 36), 7, np.uint8)}
    seen, _ = network_input(flat)
    assert np.isfinite(seen).all()
    assert make_clicker("ppo").act(flat, {}).shape == (4,)


def test_candidates_are_in_what_stands_out_and_know_where_they_are():
    seen, voxels = network_input(observation())
    assert (seen.shape, voxels.shape, seen.dtype) == ((CANDIDATES, FEATURES), (CANDIDATES, 3), np.float32)
    bright = observation()["image"][tuple(voxels.T)] >= 150
    assert bright.any()
    assert bright[: bright.sum()].all(), "what is brightest comes first"
    assert (seen[bright, 0] > seen[~bright, 0].max()).mean() > 0.9
    assert np.allclose(seen[:, 9:12], 2 * (voxels + 0.5) / (12, 36, 36) - 1, atol=0.1)
    assert (seen[:, OPEN] == 1).all()
    assert (seen[:, 12] == 1).all()


def test_what_is_clicked_is_seen_and_closed():
    _, voxels = network_input(observation())
    clicks = [(*voxels[3].tolist(), 1), (*voxels[9].tolist(), 0)]
    seen, again = network_input(observation(clicks=clicks))
    assert (again == voxels).all()
    assert np.flatnonzero(seen[:, OPEN] == 0).tolist() == [3, 9]
    assert np.allclose(seen[:, 12], 3 / 5)
    assert np.allclose(seen[[3, 9], 7], 0, atol=0.05), "distance to the nearest click"
    assert seen[9, 8] > 0.02, "and to the nearest positive one"
    logits, _ = ClickNet()(torch.from_numpy(seen)[None])
    assert logits.shape == (1, ACTIONS)
    closed = [2 * i + sign for i in (3, 9) for sign in (0, 1)]
    assert logits.softmax(1)[0, closed].sum() == 0
    assert action_of(2 * 9 + 1, voxels).tolist() == [*voxels[9].tolist(), 1]
    assert action_of(ACTIONS - 1, voxels)[3] == STOP


@pytest.fixture(scope="module")
def script():
    pytest.importorskip("stable_baselines3", reason="needs the extra rl")
    return runpy.run_path(str(SCRIPT))


def test_practice_rewards_the_gain_over_all_structures(script):
    practice = script["TrainingEnv"](script["training_cases"]("clear", 3))
    practice.reset(seed=0)
    total = 0.0
    for candidate in range(4):
        _, reward, *_ = practice.step(2 * candidate + 1)
        total += reward
    mask = practice.case.prediction.mask
    expected = np.mean([dice(mask, practice.label == target) for target in practice.targets])
    assert 0 < total == pytest.approx(expected)
    *_, terminated, truncated, _ = practice.step(ACTIONS - 1)
    assert (terminated, truncated) == (True, False)


@pytest.mark.slow
def test_training_repeats_itself_and_changes_the_network(script, tmp_path):
    for name, steps in (("a", 64), ("b", 64), ("untrained", 0)):
        script["train"]("clear", steps=steps, seed=3, to=tmp_path / name, cases=8)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    trained, untrained = load_file(tmp_path / "a"), load_file(tmp_path / "untrained")
    ClickNet().load_state_dict(trained)
    assert not any(torch.equal(trained[name], untrained[name]) for name in trained)
