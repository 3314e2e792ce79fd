"""Fast mode: what it leaves out, what it batches, and that it stays near exact mode."""

import numpy as np
import pytest
import torch
from small_sam2 import make_model

from synthfm_env.errors import InputError
from synthfm_env.prompts import Click
from synthfm_env.segmenters.sam2 import SAM2Segmenter
from synthfm_env.segmenters.sam2.chains import Chain, run
from synthfm_env.segmenters.sam2.features import Features
from synthfm_env.segmenters.sam2.refresh import refresh, runs_left
from synthfm_env.segmenters.sam2.state import State

MM = (1.0, 1.0, 1.0)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model():
    return make_model()


def noise(shape, seed=1):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("clicked", [0, 9, 19])
def test_after_the_first_click_fast_mode_computes_exact_modes_logits(model, clicked, monkeypatch):
    """Both directions go in one batch, over keys and values computed once: the same sums in another order."""
    image = noise((20, 30, 40))
    logits = {}
    for mode in ("exact", "fast"):
        segmenter = SAM2Segmenter("small", model, CPU, mode)
        segmenter._dtype = torch.float32  # features unrounded, so that only tracking can differ
        logits[mode] = segmenter.start(image, MM).add(Click((clicked, 15, 20))).logits
    assert logits["exact"].std() > 0.01
    # Pointers of slices beyond SAM 2's six memories may be missing on the way down: hence not bit for bit.
    np.testing.assert_allclose(logits["fast"], logits["exact"], atol=0.02)


def test_several_clicks_stay_near_exact_mode(model):
    clicks = [Click((9, 15, 20)), Click((3, 4, 5), False), Click((15, 20, 30)), Click((9, 2, 2), False)]
    image = noise((20, 30, 40))
    exact, fast = (SAM2Segmenter("small", model, CPU, mode).start(image, MM) for mode in ("exact", "fast"))
    for click in clicks:
        assert np.abs(exact.add(click).logits - fast.add(click).logits).max() < 0.05


def test_a_direction_ends_where_the_object_has_been_gone_for_six_slices(model, monkeypatch):
    image = noise((24, 30, 40))
    segmenter = SAM2Segmenter("small", model, CPU, "fast")
    session = segmenter.start(image, MM)
    tracked = []
    decode = type(session._step)._decode

    def absent_far_away(step, slots):
        coarse, outputs = decode(step, slots)
        for i, slot in enumerate(slots):
            tracked.append(slot.z)
            outputs.masks[i] = 5.0 if abs(slot.z - 8) < 3 else -5.0
        return coarse, outputs

    monkeypatch.setattr(type(session._step), "_decode", absent_far_away)
    prediction = session.add(Click((8, 15, 20)))
    assert sorted(tracked) == [0, 1, 2, 3, 4, 5, 6, 7, *range(9, 17)]
    assert not prediction.mask[17:].any()
    assert (prediction.logits[17:] == -1024).all()


def track_by(rule):
    """Return a step that gives each slice the logits of ``rule(z)``."""

    def step(slots):
        return [{"pred_masks": torch.full((1, 1, 4, 4), rule(slot.z))} for slot in slots]

    return step


def state_of(model, logits, clicked, clicks):
    """Return a state of slices with constant logits, and the features of a volume as deep."""
    outputs = {z: {"pred_masks": torch.full((1, 1, 4, 4), value)} for z, value in enumerate(logits)}
    state = State(clicks=tuple(clicks))
    state.conditioning = {z: outputs[z] for z in clicked}
    state.tracked = {z: output for z, output in outputs.items() if z not in clicked}
    return state, Features(model, noise((len(logits), 8, 8)), 1, torch.float32)


def test_slices_between_those_looked_at_take_over_their_change(model):
    before, features = state_of(model, [1.0] * 10, [0, 9], [Click((0, 1, 1))])
    state = before.copy()
    state.clicks += (Click((9, 1, 1)),)
    anew = refresh(runs_left(state, features, before), track_by(lambda z: 1.0 + z))
    assert anew == []
    found = [float(state.output(z)["pred_masks"].mean()) for z in range(10)]
    # Clicked slices 0 and 9 did not change; 2, 5 and 8 were looked at; the change lies on lines between them.
    np.testing.assert_allclose(found, [1, 2, 3, 4, 5, 6, 7, 8, 9, 1])
    assert float(before.output(4)["pred_masks"].mean()) == 1.0


def test_a_run_that_changed_much_is_tracked_anew_and_others_are_not(model):
    before, features = state_of(model, [1.0] * 11, [0, 5], [Click((0, 1, 1))])
    state = before.copy()
    state.clicks += (Click((5, 1, 1)),)
    anew = refresh(runs_left(state, features, before), track_by(lambda z: -1.0 if z == 8 else 1.0))
    assert [list(chain.order) for chain in anew] == [[6, 7, 8, 9, 10]]
    calls = []
    run(anew, lambda slots: calls.extend(slot.z for slot in slots) or track_by(lambda z: 2.0)(slots))
    assert calls == [6, 7, 8, 9, 10]
    assert [float(state.output(z)["pred_masks"].mean()) for z in range(11)] == [1.0] * 6 + [2.0] * 5


def test_a_chain_waits_until_the_other_is_ahead(model):
    state, features = state_of(model, [1.0] * 9, [4], [Click((4, 1, 1))])
    up = Chain(state, features, range(5, 9), reverse=False)
    down = Chain(state, features, range(3, -1, -1), reverse=True, after=up, lag=2)
    batches = []
    run([up, down], lambda slots: batches.append([s.z for s in slots]) or track_by(lambda z: 1.0)(slots))
    assert batches == [[5], [6], [7, 3], [8, 2], [1], [0]]


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_a_batch_of_sessions_answers_as_single_sessions_do(model, mode):
    segmenter = SAM2Segmenter("small", model, CPU, mode)
    images = [noise((9, 30, 40), 1), noise((5, 20, 20), 2), noise((1, 16, 16), 3)]
    rounds = [
        [Click((4, 15, 20)), Click((0, 3, 3)), Click((0, 5, 5))],
        [Click((7, 2, 2), False), Click((4, 9, 9)), Click((0, 1, 1), False)],
    ]
    sessions = [segmenter.start(image, MM) for image in images]
    together = [segmenter.add_many(sessions, clicks) for clicks in rounds]
    for i, image in enumerate(images):
        alone = segmenter.start(image, MM)
        for answers, clicks in zip(together, rounds, strict=True):
            expected = alone.add(clicks[i])
            np.testing.assert_allclose(answers[i].logits, expected.logits, rtol=0, atol=0 if mode == "exact" else 1e-3)


def test_memory_policies_remember_other_slices(model):
    image = noise((30, 30, 40))
    clicks = [Click((z, 15, 20)) for z in (2, 6, 10, 14, 18, 22)]
    logits = {}
    for policy in ("all", "nearest", "confident"):
        segmenter = SAM2Segmenter("small", model, CPU, "fast")
        segmenter.memory = policy
        session = segmenter.start(image, MM)
        for click in clicks:
            logits[policy] = session.add(click).logits
    assert np.abs(logits["all"] - logits["nearest"]).max() > 1e-4
    assert np.abs(logits["all"] - logits["confident"]).max() > 1e-4


def test_a_memory_policy_is_checked(model):
    segmenter = SAM2Segmenter("small", model, CPU, "exact")
    segmenter.memory = "nearest"
    with pytest.raises(InputError, match="mode='fast'"):
        segmenter.start(noise((3, 8, 8)), MM)
    segmenter = SAM2Segmenter("small", model, CPU, "fast")
    segmenter.memory = "nearby"  # type: ignore[assignment]
    with pytest.raises(InputError, match="did you mean nearest"):
        segmenter.start(noise((3, 8, 8)), MM)


@pytest.mark.parametrize(
    ("image", "spacing", "message"),
    [
        (np.zeros((0, 8, 8), np.uint8), MM, "empty|no voxel|shape"),
        (np.full((2, 8, 8), np.nan), MM, "finite|NaN"),
        (np.full((2, 8, 8), np.inf), MM, "finite|infinite"),
        (np.zeros((2, 8, 8), np.uint8), (0.0, 1.0, 1.0), "positive"),
        (np.zeros((2, 8, 8), np.uint8), (1.0, -1.0, 1.0), "positive"),
    ],
)
def test_what_is_wrong_with_an_image_is_named(model, image, spacing, message):
    with pytest.raises(InputError, match=message):
        SAM2Segmenter("small", model, CPU, "fast").start(image, spacing)
