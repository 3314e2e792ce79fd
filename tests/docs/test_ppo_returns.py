"""Tests the figures of the documentation's PPO programs: returns of ended episodes, and final Dice on unseen seeds."""

import re
import runpy
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

from synthfm_env.envs.wrappers import CandidateClicks, VectorCandidateClicks

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how-to" / "reinforcement-learning.md"


@pytest.fixture
def episodes(monkeypatch):
    """Record each step of ``VectorCandidateClicks``: the returns of the episodes that it ended."""
    ended, running, plain = [], {}, VectorCandidateClicks.step

    def step(self, actions):
        result = plain(self, actions)
        sums = running.setdefault(id(self), np.zeros(self.num_envs))
        sums += result[1]
        ends = result[2] | result[3]
        ended.append(sums[ends].tolist())
        sums[ends] = 0
        return result

    monkeypatch.setattr(VectorCandidateClicks, "step", step)
    return ended


def check(printed: str, pattern: str, ended: list[list[float]], steps: int) -> None:
    lines = re.findall(pattern, printed)
    assert len(lines) == 2
    for update, (shown, count) in enumerate(lines):
        returns = [value for step in ended[update * steps : (update + 1) * steps] for value in step]
        assert int(count) == len(returns)
        assert float(shown) == pytest.approx(np.mean(returns), abs=6e-4)


def test_the_example_prints_the_returns_of_ended_episodes(episodes, capsys):
    main = runpy.run_path(str(ROOT / "examples" / "ppo.py"))["main"]
    with torch.random.fork_rng(devices=[]):
        main(2)
    check(capsys.readouterr().out, r"mean return (-?[\d.]+) of (\d+) episodes", episodes, 20)


def blocks_with(*words: str) -> list[str]:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [block for block in blocks if any(word in block for word in words)]


def test_the_page_prints_the_returns_of_ended_episodes(episodes, capsys):
    (program,) = blocks_with("for update in")
    with torch.random.fork_rng(devices=[]):
        exec(compile(program, str(PAGE), "exec"), {"__name__": "page"})
    check(capsys.readouterr().out, r"mean return (-?[\d.]+) of (\d+) episodes", episodes, 6)


def test_the_pages_final_dice_is_that_of_single_environments():
    (program,) = blocks_with("def final_dice")
    whole = program.partition("\nrng = ")[0]
    task = {"shape": [8, 32, 32], "segmenter": "geodesic", "start": "click", "max_clicks": 3}
    names = {"gym": gym, "np": np, "VectorCandidateClicks": VectorCandidateClicks}
    names["task"] = {**task, "autoreset_mode": "SameStep", "workers": 0}
    exec(compile(whole.replace("range(10_000, 10_016)", "range(10_000, 10_004)"), str(PAGE), "exec"), names)
    single = CandidateClicks(gym.make("synthfm_env:SynthFM/Synthetic3D-v0", **task), k=8)
    for wanted in ([0, 8, 0, 8], [8, 0, 0, 0]):  # 8 stops at once, so environments end at different steps
        expected = []
        for seed, action in zip(names["seeds"], wanted, strict=True):
            ended, _ = False, single.reset(seed=seed)
            while not ended:
                _, _, terminated, truncated, info = single.step(action)
                ended = terminated or truncated
            expected.append(info["dice"])
        assert names["final_dice"](lambda observations, masks, wanted=wanted: np.array(wanted)).tolist() == expected
    names["cases"].close()
