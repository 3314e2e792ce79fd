"""Runs the training scripts of candidate policies: they repeat, and clickers read their weights."""

import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

blind_ppo = pytest.importorskip("blind_ppo", reason="the scripts in agents/ are not on the Python path")
import command_line  # noqa: E402
import imitation  # noqa: E402
import oracle_ppo  # noqa: E402
import paired_test  # noqa: E402
import second_opinion  # noqa: E402
import seed_spread  # noqa: E402
from synthfm_agents import make_clicker  # noqa: E402
from synthfm_agents.candidates.network import CandidateNet  # noqa: E402
from synthfm_env import InputError, SyntheticEnv  # noqa: E402
from synthfm_env.candidates import FEATURES  # noqa: E402

TINY = {"segmenter": "geodesic", "shape": (8, 24, 24), "clicks": 3}
PPO = {**TINY, "steps": 16, "envs": 2, "rollout": 4, "epochs": 1, "minibatches": 2}


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
def test_ppo_repeats_from_its_seed_and_writes_a_curve(tmp_path):
    first, again, other = (
        load_file(blind_ppo.train(blind_ppo.Settings(**PPO, seed=seed), None, tmp_path / name))
        for seed, name in ((0, "a"), (0, "b"), (1, "c"))
    )
    assert all((first[key] == again[key]).all() for key in first)
    assert any((first[key] != other[key]).any() for key in first)
    curve = [json.loads(line) for line in (tmp_path / "a" / "curve.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["clicks"] for line in curve] == [8, 16]


@pytest.mark.slow
def test_imitation_learns_the_look_ahead_and_ppo_goes_on_from_it(tmp_path):
    settings = imitation.Settings(**TINY, episodes=3, steps=300, batch=32)
    weights = imitation.train(settings, tmp_path / "bc", None)
    gains = np.load(tmp_path / "bc" / "lookahead.npz")["gains"]
    assert gains.shape[1] == 8
    assert np.nanmax(gains) > 0
    again = imitation.train(settings, tmp_path / "again", tmp_path / "bc" / "lookahead.npz")
    assert load_file(weights)["each.weight"].equal(load_file(again)["each.weight"])
    ppo = oracle_ppo.train(oracle_ppo.Settings(**PPO), weights, tmp_path / "ppo")
    paired_test.measure(
        paired_test.Contender("oracle-ppo-v1", {"segmenter": "geodesic", "weights": ppo}),
        [paired_test.Contender("ritm-3d-v1"), paired_test.Contender("stop")],
        "geodesic",
        (8, 24, 24),
        3,
        3,
        None,
        "click",
    )


@pytest.mark.slow
def test_a_blind_policy_begins_with_the_weights_of_imitation(tmp_path):
    settings = imitation.Settings(**TINY, blind=True, episodes=2, envs=2, steps=100, batch=32)
    weights = imitation.train(settings, tmp_path / "bc", None)
    states = np.load(tmp_path / "bc" / "lookahead.npz")
    assert (states["features"][:, 0, FEATURES.index("tried")] == 1).all(), "a blind policy looks ahead at every click"
    assert not states["features"][:, :, FEATURES.index("gain")].any(), "it never sees the gain"
    unmoved = blind_ppo.Settings(**{**PPO, "steps": 0})
    assert load_file(blind_ppo.train(unmoved, weights, tmp_path / "ppo"))["each.weight"].equal(
        load_file(weights)["each.weight"]
    )


def test_an_oracle_is_recorded_as_it_will_play(tmp_path, capsys):
    settings = imitation.Settings(**TINY, episodes=4, envs=3)
    states = imitation.record(settings, tmp_path)
    shown = [line.split(",")[0] for line in capsys.readouterr().out.splitlines()]
    assert shown[-1] == "4 of 4 episodes"
    tried = states["features"][:, :, FEATURES.index("tried")].any(axis=1)
    clicks = states["features"][:, 0, FEATURES.index("clicks")]
    assert (tried == (clicks == 0)).all()
    first = states["features"][tried][:, :, FEATURES.index("gain")]
    known = ~np.isnan(states["gains"][tried])
    assert np.allclose(first[known] / 10, states["gains"][tried][known].clip(-0.4, 0.4), atol=1e-6)


def test_returns_of_the_oracles_reward_sum_to_nauc(tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(oracle_ppo.blind_ppo, "improve", lambda net, optimizer, batch, *rest: kept.append(batch))
    oracle_ppo.train(oracle_ppo.Settings(**{**PPO, "rollout": 8}), None, tmp_path)
    assert kept[0]["rewards"].sum() > 0
    assert kept[0]["rewards"].max() <= 1


def test_a_curve_holds_whole_episodes_only():
    unfinished = torch.zeros(2)
    rewards = torch.tensor([[0.5, 0.1], [0.2, 0.1], [0.4, 0.1]])
    ends = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    assert blind_ppo.mean_return({"rewards": rewards, "ends": ends}, unfinished) == pytest.approx(0.7)
    assert unfinished.tolist() == pytest.approx([0.4, 0.3])
    last = {"rewards": torch.tensor([[0.1, 0.2]]), "ends": torch.ones(1, 2)}
    assert blind_ppo.mean_return(last, unfinished) == pytest.approx(0.5)


def test_scores_do_not_depend_on_the_order_of_the_candidates():
    torch.manual_seed(0)
    net, features = CandidateNet().eval(), torch.randn(1, 6, len(FEATURES))
    mask = torch.tensor([[True, True, True, True, False, False, True]])
    order = torch.tensor([2, 0, 3, 1, 4, 5])
    logits, value = net(features, mask)
    moved, same = net(features[:, order], mask)
    assert torch.allclose(moved[0, :4], logits[0, order[:4]], atol=1e-6)
    assert torch.allclose(value, same, atol=1e-6)
    other = features.clone()
    other[0, 4:] = 9.0
    assert torch.allclose(net(other, mask)[0], logits), "rows without a candidate do not count"


def test_holms_correction_is_that_of_the_step_down_procedure():
    assert paired_test._holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert paired_test._holm([0.9, 0.8]) == [1.0, 1.0]


PACKAGED = files("synthfm_agents") / "candidates"


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        (blind_ppo, ["--shape", "24,48"], "--shape '24,48': expected three voxel counts"),
        (blind_ppo, ["--train", "--shape", "a,b,c"], "--shape 'a,b,c'"),
        (blind_ppo, ["--train", "--segmenter", "geodesik"], "did you mean geodesic"),
        (blind_ppo, ["--train", "--init", "nowhere.safetensors"], "weights nowhere.safetensors"),
        (blind_ppo, ["--weights", "nowhere.safetensors", "--cases", "1"], "weights nowhere.safetensors"),
        (blind_ppo, ["--weights", str(PACKAGED / "oracle-ppo-v1.safetensors")], "kind 'oracle', expected 'blind'"),
        (blind_ppo, ["--train", "--real", "nowhere"], "nowhere: there is no such folder"),
        (blind_ppo, ["--train", "--seed", "-1"], "--seed is -1"),
        (blind_ppo, ["--cases", "-1"], "--cases is -1"),
        (blind_ppo, ["--train", "--segmenter", "geodesic", "--shape", "8,24,24", "--out", "/dev/null/a"], "/dev/null"),
        (oracle_ppo, ["--shape", "24"], "--shape '24'"),
        (oracle_ppo, ["--init", str(PACKAGED / "blind-ppo-v1.safetensors")], "kind 'blind', expected 'oracle'"),
        (imitation, ["--train", "--recorded", "nowhere.npz"], "--recorded nowhere.npz: no record"),
        (imitation, ["--shape", "0,1,1"], "--shape '0,1,1'"),
        (second_opinion, ["--opinions", "geodesik"], "did you mean geodesic"),
        (seed_spread, ["nowhere.safetensors", "--cases", "20", "--segmenter", "geodesic"], "weights nowhere"),
    ],
)
def test_a_users_mistake_is_one_line_and_status_2(monkeypatch, capsys, script, arguments, message):
    monkeypatch.setattr("sys.argv", [f"{script.__name__}.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        command_line.run(script.main)
    lines = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert len(lines) == 1
    assert lines[0].startswith(f"{script.__name__}.py: ")
    assert message in lines[0]


def test_a_clicker_refuses_the_weights_of_the_other_kind():
    env = SyntheticEnv(shape=(8, 24, 24), segmenter="geodesic", reveal_truth=True)
    clicker = make_clicker("oracle-ppo-v1", segmenter="geodesic", weights=PACKAGED / "blind-ppo-v1.safetensors")
    clicker.reset(0)
    with pytest.raises(InputError, match="kind 'blind', expected 'oracle'"):
        clicker.act(*env.reset(seed=0))


def test_weights_that_are_none_are_named(tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"nothing")
    env = SyntheticEnv(shape=(8, 24, 24), segmenter="geodesic", reveal_truth=True)
    clicker = make_clicker("oracle-ppo-v1", segmenter="geodesic", weights=Path(path))
    clicker.reset(0)
    with pytest.raises(InputError, match="no policy over candidates can be read"):
        clicker.act(*env.reset(seed=0))
