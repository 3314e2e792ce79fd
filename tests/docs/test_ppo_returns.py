"""Tests that the PPO programs of the documentation print the returns of the episodes that ended, and nothing else."""

import re
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from synthfm_env.envs.wrappers import VectorCandidateClicks

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


def test_the_page_prints_the_returns_of_ended_episodes(episodes, capsys):
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    (program,) = (block for block in blocks if "for update in" in block)
    with torch.random.fork_rng(devices=[]):
        exec(compile(program, str(PAGE), "exec"), {"__name__": "page"})
    check(capsys.readouterr().out, r"mean return (-?[\d.]+) of (\d+) episodes", episodes, 6)
