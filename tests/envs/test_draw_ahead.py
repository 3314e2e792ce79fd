"""Tests volumes of coming episodes that other processes draw."""

import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
from env_cases import BALL
from gymnasium.utils.env_checker import data_equivalence

from synthfm_env import InputError, SynthFM3D
from synthfm_env.envs.draw_ahead import DrawAhead

SMALL = {"shape": [8, 24, 24], "segmenter": BALL, "max_clicks": 2, "reveal_truth": True}


def equal(a, b):
    same = (a.spacing, a.modality, a.case_id, a.structures) == (b.spacing, b.modality, b.case_id, b.structures)
    return same and a.image.tobytes() == b.image.tobytes() and a.label.tobytes() == b.label.tobytes()


@pytest.fixture
def generator():
    return SynthFM3D(shape=(8, 24, 24))


def test_workers_draw_what_the_generator_draws(generator):
    ahead = DrawAhead(generator, 1)
    for seed in (3, 4, 5):
        ahead.announce(seed)
    assert all(equal(ahead.take(seed), generator.sample(seed)) for seed in (5, 3, 4, 9))
    ahead.close()
    ahead.close()


def test_a_dead_worker_is_replaced_by_drawing_here(generator, monkeypatch):
    ahead = DrawAhead(generator, 1)
    ahead.announce(1)
    ahead.take(1)
    ahead._workers[0]._process.kill()
    ahead.announce(2)
    assert equal(ahead.take(2), generator.sample(2))
    ahead.close()


def test_episodes_do_not_depend_on_the_workers():
    def rollout(workers):
        vector = gym.make_vec("SynthFM/Synthetic3D-v0", num_envs=2, workers=workers, autoreset_mode="SameStep", **SMALL)
        returned = [vector.reset(seed=0)]
        returned += [vector.step(np.array([[4, i, i, 1]] * 2)) for i in range(5)]
        vector.close()
        return returned

    assert data_equivalence(rollout(0), rollout(1), exact=True)


def test_the_case_of_the_next_episode_is_announced(monkeypatch):
    env = gym.make("SynthFM/Synthetic3D-v0", **SMALL).unwrapped
    announced = []
    monkeypatch.setattr(env.draw_ahead, "announce", announced.append)
    env.reset(seed=0)
    for _ in range(3):
        expected = announced[-1]
        assert env.reset()[1]["case_id"].endswith(f"-{expected}")


@pytest.mark.slow
def test_a_script_without_a_guard_may_use_workers():
    script = (
        "import gymnasium as gym\n"
        "envs = gym.make_vec('synthfm_env:SynthFM/Synthetic3D-v0', num_envs=2, shape=[8, 24, 24],"
        " segmenter='geodesic', workers=1)\n"
        "envs.reset(seed=0); envs.reset(); envs.close(); print('done')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr


def test_fewer_than_no_workers_are_refused():
    with pytest.raises(InputError, match="workers is -1"):
        gym.make_vec("SynthFM/Synthetic3D-v0", num_envs=2, workers=-1, **SMALL)
