"""Tests wrappers for a user's errors, effort and records."""

import json
from hashlib import sha256

import numpy as np
import pytest
from ball_segmenter import BallSegmenter

from synthfm_env import InputError, VolumeEnv
from synthfm_env.envs.wrappers import EffortCost, FlatAction, NoisyClicks, RecordSteps, UndoAction

MIDDLE = [5, 10, 9, 1]


def boxes(volume, **kwargs):
    return VolumeEnv(
        **{"image": volume, "structure": "box", "segmenter": BallSegmenter(), "reveal_truth": True, **kwargs}
    )


def placed(env, action, seed, times):
    """Place a click many times; return the clicks as they were made, (times, 4)."""
    env.reset(seed=seed)
    for _ in range(times):
        observation = env.step(action)[0]
    return observation["clicks"][:times]


def test_without_noise_nothing_changes(volume):
    assert (placed(NoisyClicks(boxes(volume)), MIDDLE, 0, 5) == MIDDLE).all()


def test_jitter_is_in_mm_along_each_axis_and_stays_inside(volume):
    env = NoisyClicks(boxes(volume, max_clicks=600), jitter_mm=2.5)
    off = (placed(env, MIDDLE, 0, 600) - MIDDLE)[:, :3] * volume.spacing
    assert np.abs(off.mean(axis=0)).max() < 0.4
    assert off.std(axis=0) == pytest.approx([2.5] * 3, abs=0.4)
    corner = placed(env, [0, 0, 19, 1], 0, 600)[:, :3]
    assert (corner >= 0).all()
    assert (corner < volume.image.shape).all()


def test_signs_are_wrong_as_often_as_asked(volume):
    env = NoisyClicks(boxes(volume, max_clicks=600), wrong_sign=0.25)
    for sign in (0, 1):
        made = placed(env, [*MIDDLE[:3], sign], 1, 600)
        assert (made[:, 3] != sign).mean() == pytest.approx(0.25, abs=0.06)
        assert (made[:, :3] == MIDDLE[:3]).all()


def test_noise_follows_from_the_seed_and_leaves_the_episodes_alone(volume):
    noisy, clean = NoisyClicks(boxes(volume, structure=None), jitter_mm=3.0), boxes(volume, structure=None)
    first, again, other = (placed(noisy, MIDDLE, seed, 8) for seed in (3, 3, 4))
    assert (first == again).all()
    assert (first != other).any()
    noisy.reset(seed=7)
    clean.reset(seed=7)
    noisy.step(MIDDLE)
    assert [noisy.reset()[1]["structure"] for _ in range(9)] == [clean.reset()[1]["structure"] for _ in range(9)]


def test_small_errors_are_overlooked(volume):
    """The box has 5 x 9 x 9 voxels of 3 mm3; around its middle a ball of radius 4 covers all but its corners."""
    for missed, outcome in ((5 * 9 * 9 * 3 + 1, "stopped"), (5 * 9 * 9 * 3, "running")):
        env = NoisyClicks(boxes(volume), missed_mm3=missed)
        env.reset()
        assert env.step(MIDDLE)[4]["outcome"] == outcome
    env = NoisyClicks(boxes(volume), missed_mm3=10**6)
    env.reset()
    assert env.step([0, 0, 0, 1])[4]["outcome"] == "running", "a click into no error is no overlooked error"
    assert env.step([0, 0, 0, 0])[4]["outcome"] == "stopped", "what the click before wrongly covers is small"


def test_stop_and_undo_pass(volume):
    env = NoisyClicks(UndoAction(boxes(volume)), jitter_mm=2.0, wrong_sign=1.0)
    env.reset(seed=0)
    env.step(MIDDLE)
    assert (env.step([0, 0, 0, 3])[0]["clicks"] == -1).all()
    assert env.step([0, 0, 0, 2])[4]["outcome"] == "stopped"


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"jitter_mm": -1}, "jitter_mm is -1, expected a number from 0 to 10000"),
        ({"wrong_sign": 1.1}, "wrong_sign is 1.1, expected a number from 0 to 1"),
        ({"missed_mm3": float("nan")}, "missed_mm3 is nan"),
    ],
)
def test_wrong_noise_is_explained(volume, kwargs, message):
    with pytest.raises(InputError, match=message):
        NoisyClicks(boxes(volume), **kwargs)


def test_noise_needs_truth_and_voxels(volume):
    with pytest.raises(InputError, match="reveal_truth=True"):
        NoisyClicks(boxes(volume, reveal_truth=False), missed_mm3=10)
    with pytest.raises(InputError, match="put NoisyClicks inside"):
        NoisyClicks(FlatAction(boxes(volume)))


def test_effort_is_the_sum_of_clicks_slices_and_millimetres(volume):
    env = EffortCost(UndoAction(boxes(volume)), per_click=1.0, per_slice=10.0, per_mm=100.0)
    plain = UndoAction(boxes(volume))
    efforts = []
    _, info = env.reset()
    plain.reset()
    assert info["effort"] == 0.0
    for action in (MIDDLE, [3, 13, 13, 1], [3, 13, 13, 1], [0, 0, 0, 3], [4, 13, 13, 0], [0, 0, 0, 2]):
        _, reward, *_, info = env.step(action)
        efforts.append(plain.step(action)[1] - reward)
    assert efforts == pytest.approx([1, 1 + 2 * 10 + 5 * 100, 1, 1, 1 + 10, 0])
    assert info["effort"] == pytest.approx(sum(efforts))
    assert env.reset()[1]["effort"] == 0.0
    env.step([0, 0, 0, 1])
    assert env.step([0, 0, 0, 2])[4]["effort"] == 1.0, "the way to an episode's first click is free"


def test_effort_counts_on_flat_actions_too(volume):
    env = EffortCost(FlatAction(boxes(volume)), per_click=0.5)
    env.reset()
    assert env.step(1)[4]["effort"] == 0.5


def test_negative_prices_are_refused(volume):
    with pytest.raises(InputError, match="per_mm is -1"):
        EffortCost(boxes(volume), per_mm=-1)


def test_the_record_holds_what_was_played(make, tmp_path):
    path = tmp_path / "steps.jsonl"
    env = RecordSteps(make("SynthFM/Volume-v0", structure=1, reveal_truth=True), path)
    env.reset(seed=3)
    observation, reward, _, _, info = env.step(np.array(MIDDLE))
    env.step([0, 0, 0, 2])
    env.reset(options={"structure": 7})
    head, reset, step, stop, second = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert head["spec"] == json.loads(env.env.spec.to_json())
    assert (reset["episode"], reset["step"], reset["seed"], reset["options"]) == (0, 0, 3, {})
    assert (step["action"], step["click"], step["reward"]) == (MIDDLE, MIDDLE, reward)
    assert step["mask_sha256"] == sha256(observation["mask"].tobytes()).hexdigest()
    assert {key: step[key] for key in info if key != "truth"} == {k: v for k, v in info.items() if k != "truth"}
    assert "truth" not in step
    assert (stop["step"], stop["terminated"], stop["truncated"], stop["outcome"]) == (2, True, False, "stopped")
    assert (second["episode"], second["step"], second["structure"], second["seed"]) == (1, 0, "7", None)


def test_the_same_episodes_are_the_same_lines(make, tmp_path):
    paths = [tmp_path / name for name in ("a", "b")]
    for path in paths:
        env = RecordSteps(make("SynthFM/Volume-v0"), path)
        env.reset(seed=1)
        env.step(MIDDLE)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_an_environment_without_a_json_spec_is_recorded_too(volume, tmp_path):
    RecordSteps(boxes(volume), tmp_path / "a")
    assert json.loads((tmp_path / "a").read_text(encoding="utf-8"))["spec"] is None


@pytest.mark.parametrize("structure", [np.int64(7), np.uint8(7)])
def test_a_record_takes_numpys_integers(volume, tmp_path, structure):
    RecordSteps(boxes(volume), tmp_path / "a").reset(seed=0, options={"structure": structure})
    line = (tmp_path / "a").read_text(encoding="utf-8").splitlines()[1]
    assert json.loads(line)["options"] == {"structure": 7}


@pytest.mark.parametrize("path", [None, 3, b"a"])
def test_a_record_needs_a_path(volume, path):
    with pytest.raises(InputError, match="expected the path of a new file"):
        RecordSteps(boxes(volume), path)


def test_a_record_is_not_written_over(volume, tmp_path):
    (tmp_path / "a").write_text("precious")
    with pytest.raises(InputError, match="a exists: give another path"):
        RecordSteps(boxes(volume), tmp_path / "a")
    assert (tmp_path / "a").read_text(encoding="utf-8") == "precious"
    with pytest.raises(InputError, match="cannot be written"):
        RecordSteps(boxes(volume), tmp_path / "nowhere" / "a")
