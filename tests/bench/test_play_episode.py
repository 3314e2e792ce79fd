import hashlib
import json
import shlex
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from synthfm_agents import make_clicker
from synthfm_bench.execution.episode_runner import play_episode
from synthfm_env.metrics import hd95, nsd
from synthfm_env.segmenters.bridge import BridgeSegmenter
from synthfm_env.segmenters.bridge.process import _Running
from synthfm_env.volumes import Volume, to_uint8

FIXED = {
    "run_id": "run",
    "episode_id": "e",
    "env_id": "SynthFM/Volume-v0",
    "data_id": "own volume",
    "case_id": "box",
    "seed": 0,
    "clicker_seed": 5,
    "max_clicks": 4,
    "protocol_hash": "0" * 64,
    "tol_mm": 1.0,
    "model_hash": None,
    "device": "cpu",
}


@pytest.fixture
def volume():
    label = np.zeros((12, 20, 24), dtype=np.int16)
    label[3:9, 5:15, 6:18] = 2
    image = (label * 100).astype(np.float32)
    return Volume(image, label, spacing=(3.0, 0.5, 0.25), modality="CT", case_id="box", structures={2: "box"})


def play(volume, clicker="ritm-3d-v1", model="toys:Ball"):
    env = gym.make("synthfm_env:SynthFM/Volume-v0", image=volume, segmenter=model, max_clicks=4, reveal_truth=True)
    who = make_clicker(clicker)
    fixed = FIXED | {"clicker": clicker, "protocol": clicker, "oracle": who.oracle, "model": str(model)}
    records = list(play_episode(env, who, fixed, 2))
    env.close()
    return records


def test_a_record_says_what_the_click_did(volume):
    first, *_, last = play(volume)
    assert (first.step, first.outcome, first.structure, first.modality) == (1, "running", "box", "CT")
    # The box is 6 x 10 x 12: its deepest voxels lie 3 from the border, the first of them at (5, 7, 8).
    assert first.point_zyx == (5, 7, 8)
    assert first.point_mm == (15.0, 3.5, 2.0)
    assert (first.label, first.complied) == (1, True)
    assert (first.t_encode_s, first.t_predict_s) == (0.5, 0.25)
    truth = volume.label == 2
    ball = np.sum((np.indices(truth.shape).T - (5, 7, 8)) ** 2, axis=-1).T <= 16
    assert (first.fn_vox, first.fp_vox) == ((truth & ~ball).sum(), (ball & ~truth).sum())
    assert first.dice == pytest.approx(2 * (truth & ball).sum() / (truth.sum() + ball.sum()))
    assert first.iou == pytest.approx((truth & ball).sum() / (truth | ball).sum())
    assert first.reward == pytest.approx(first.dice)
    assert first.nsd == nsd(ball, truth, volume.spacing, 1.0) > 0
    assert first.hd95_mm == hd95(ball, truth, volume.spacing)
    assert first.mask_sha256 == hashlib.sha256(ball.tobytes()).hexdigest()
    assert first.image_sha256 == hashlib.sha256(to_uint8(volume.image, "CT").tobytes()).hexdigest()
    assert (first.shape_zyx, first.spacing_zyx, first.truth_vox) == ((12, 20, 24), (3.0, 0.5, 0.25), 720)
    assert first.peak_memory_mib > 10
    assert (last.step, last.outcome, last.truncated, last.terminated) == (4, "max_clicks", True, False)


def test_a_click_that_a_later_one_undoes_is_seen(volume):
    records = play(volume)
    places = [(r.point_zyx, bool(r.label)) for r in records]
    for number, record in enumerate(records, start=1):
        # The toy paints a ball of 4 voxels around each click, so a voxel has the sign of the last click near it.
        obeyed = []
        for place, sign in places[:number]:
            near = [s for p, s in places[:number] if sum((a - b) ** 2 for a, b in zip(p, place, strict=True)) <= 16]
            obeyed.append(near[-1] == sign)
        assert record.kept == pytest.approx(sum(obeyed) / number)


def test_the_same_seeds_give_the_same_clicks(volume):
    assert [r.point_zyx for r in play(volume, "random")] == [r.point_zyx for r in play(volume, "random")]


def test_a_blind_clicker_is_shown_nothing_that_comes_from_the_truth(volume):
    records = play(volume, "toys:Blind")
    assert [(r.outcome, r.point_zyx) for r in records[:2]] == [("running", (6, 10, 12))] * 2
    assert len(records) == 4


def test_a_perfect_mask_ends_without_error(volume):
    small = np.zeros(volume.image.shape, dtype=np.int16)
    small[np.sum((np.indices(small.shape).T - (6, 10, 12)) ** 2, axis=-1).T <= 16] = 2
    records = play(Volume(volume.image, small, case_id="ball"))
    assert [(r.outcome, r.dice) for r in records] == [("running", 1.0), ("no_error", 1.0)]
    assert (records[1].point_zyx, records[1].label, records[1].t_predict_s) == (None, None, None)
    assert records[1].terminated


def test_a_segmenter_that_fails_at_a_click_loses_its_score(volume):
    records = play(volume, model="toys:FailsAtThirdClick")
    assert [r.outcome for r in records] == ["running", "running", "model_error"]
    assert records[1].dice > 0
    assert (records[2].dice, records[2].iou, records[2].nsd, records[2].hd95_mm) == (0, 0, 0, None)
    assert records[2].point_zyx is not None
    assert (records[2].mask_sha256, records[2].t_predict_s, records[2].complied) == (None, None, None)
    assert records[2].terminated
    assert records[2].error == "RuntimeError: out of ideas"


@pytest.mark.parametrize(
    ("clicker", "model", "outcome", "error"),
    [
        ("ritm-3d-v1", "toys:FailsAtStart", "out_of_memory", "MemoryError: too large"),
        ("toys:Outside", "toys:Ball", "invalid_prompt", "InputError: env.step() got action"),
        ("toys:Speechless", "toys:Ball", "clicker_error", "LookupError: nowhere to click"),
    ],
)
def test_a_failure_before_any_answer_is_a_row_that_scores_0(volume, clicker, model, outcome, error):
    (record,) = play(volume, clicker, model)
    assert (record.step, record.outcome, record.dice, record.iou) == (1, outcome, 0.0, 0.0)
    assert record.terminated
    assert record.error.startswith(error)
    assert "\n" not in record.error


@pytest.mark.parametrize(
    ("mood", "outcome"),
    [("hangs", "timeout"), ("dies", "out_of_memory"), ("garbage", "model_error"), ("refuses", "invalid_prompt")],
)
def test_a_bridged_model_that_misbehaves_ends_its_episode_with_a_typed_outcome(volume, mood, outcome, monkeypatch):
    ask = _Running.ask

    def ask_patiently(running, line, limit_s):
        never_answered = mood == "hangs" and len(json.loads(line).get("prompts", ())) == 2
        return ask(running, line, 1.0 if never_answered else limit_s)  # a slow machine decides nothing

    monkeypatch.setattr(_Running, "ask", ask_patiently)
    model = Path(__file__).parents[1] / "helpers" / "hostile_model.py"
    segmenter = BridgeSegmenter(f"{shlex.quote(sys.executable)} {shlex.quote(str(model))} {mood}")
    for _ in range(2):  # the next episode is played on
        *_, last = play(volume, model=segmenter)
        assert (last.step, last.outcome, last.dice) == (2, outcome, 0.0)
