import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from games import made_game

from synthfm_agents import make_clicker
from synthfm_bench.play.compare import Pair, agreement, fit_noise, replay_beside
from synthfm_bench.play.person_episode import Thought
from synthfm_env.envs.actions import read_action
from synthfm_env.errors import InputError


def play_by_rule(folder, alias, rule, seed=0, **params):
    """Let a rule take a person's place: made-up records, in the form of a person's."""
    game = made_game(folder, alias)
    clicker = make_clicker(rule, **params)
    for index in range(2):
        game.open(index)
        clicker.reset(seed + index)
        episode = game.episode
        clicks = []
        while not episode.ended:
            rows = np.full((4, 4), -1, np.int32)
            rows[: len(clicks)] = [(*click.zyx, click.positive) for click in clicks] or rows[:0]
            observation = {"mask": episode.mask, "spacing": episode.spacing, "clicks": rows}
            click = read_action(clicker.act(observation, {"truth": episode.truth}), episode.image.shape)
            if click is None:
                game.finish(Thought(1.0))
            else:
                game.click(click, Thought(1.0))
                clicks.append(click)
    game.end()
    game.close()
    return folder / alias


@pytest.fixture(scope="module")
def exact(tmp_path_factory):
    return play_by_rule(tmp_path_factory.mktemp("study"), "exact", "ritm-3d-v1")


@pytest.fixture(scope="module")
def shaky(tmp_path_factory):
    return play_by_rule(tmp_path_factory.mktemp("study"), "shaky", "human-noise-v1", jitter_mm=2.0, wrong_sign=0.0)


def test_who_clicks_as_a_rule_has_no_distance_from_it(exact):
    pairs = [pair for one in replay_beside(exact, ["ritm-3d-v1", "synthfm-mm-v1"], trusted=True) for pair in one.pairs]
    ritm = [pair for pair in pairs if pair.rule == "ritm-3d-v1"]
    assert len(ritm) >= 6
    assert all(pair.distance_mm == 0 and pair.same_sign and not pair.slipped for pair in ritm)
    assert fit_noise(pairs).jitter_mm == 0
    assert fit_noise(pairs).wrong_sign == 0
    assert any(pair.distance_mm > 0 for pair in pairs if pair.rule == "synthfm-mm-v1")


def test_who_clicks_beside_a_rule_is_at_a_distance_in_mm(shaky):
    pairs = [pair for one in replay_beside(shaky, ["ritm-3d-v1"], trusted=True) for pair in one.pairs]
    assert any(pair.distance_mm > 0 for pair in pairs)
    assert all(pair.same_sign for pair in pairs)
    spacing = (3.0, 1.0, 1.5)
    assert all((np.mod(pair.off_mm, spacing) == 0).all() for pair in pairs)


def test_the_fit_finds_the_noise_that_was_put_in():
    rng = np.random.default_rng(0)
    pairs = [
        Pair("human:a", "ritm-3d-v1", 1, tuple(rng.normal(0, 2.5, 3)), True, slipped=i % 10 == 0) for i in range(600)
    ]
    fit = fit_noise(pairs)
    assert fit.jitter_mm == pytest.approx(2.5, rel=0.06)
    assert fit.wrong_sign == pytest.approx(0.1)
    with pytest.raises(InputError, match="nothing to fit"):
        fit_noise([])


def test_people_agree_with_themselves_and_less_with_others(exact, shaky):
    one, two = (replay_beside(folder, [], trusted=True) for folder in (exact, shaky))
    (values,) = agreement([*one, *two]).values()
    assert len(values) == 2
    assert all(0.5 < value <= 1 for value in values)
    assert agreement([*one, *one])["human:exact", "human:exact"] == [1.0, 1.0]


def test_a_run_without_people_is_refused(tmp_path):
    with pytest.raises(InputError):
        replay_beside(tmp_path, [])


@pytest.mark.slow
def test_the_study_prints_its_tables(exact, shaky):
    script = Path(__file__).parents[2] / "benchmarks" / "studies" / "people.py"
    done = subprocess.run(
        [sys.executable, script, "--trust-plugins", exact, shaky], capture_output=True, text=True, check=True
    )
    assert "| human:exact | ritm-3d-v1 |" in done.stdout
    assert "| human:exact | human:shaky | 2 |" in done.stdout
    assert "human-noise-v1: jitter_mm = " in done.stdout
