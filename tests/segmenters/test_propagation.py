"""Tests fast mode: skipped slices, batches, and masks close to those of exact mode."""

import numpy as np
import pytest
import torch
from small_sam2 import make_model

from synthfm_env.errors import InputError
from synthfm_env.prompts import Click
from synthfm_env.segmenters.sam2 import EngineOptions, SAM2Segmenter
from synthfm_env.segmenters.sam2.slice_memory import SliceMemory, StackState
from synthfm_env.segmenters.sam2.tracking.preview import interpolate_unvisited, preview_slices
from synthfm_env.segmenters.sam2.tracking.propagation import Sweep, propagate, pruned_sweeps

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
        segmenter = SAM2Segmenter("small", model, CPU, exact=mode == "exact")
        segmenter._tracker.feature_dtype = torch.float32  # features unrounded, so that only tracking can differ
        logits[mode] = segmenter.start(image, MM).add(Click((clicked, 15, 20))).logits
    assert logits["exact"].std() > 0.01
    # Pointers of slices beyond SAM 2's six memories may be missing on the way down: hence not bit for bit.
    np.testing.assert_allclose(logits["fast"], logits["exact"], atol=0.02)


def test_several_clicks_stay_near_exact_mode(model):
    clicks = [Click((9, 15, 20)), Click((3, 4, 5), False), Click((15, 20, 30)), Click((9, 2, 2), False)]
    image = noise((20, 30, 40))
    exact, fast = (
        SAM2Segmenter("small", model, CPU, exact=mode == "exact").start(image, MM) for mode in ("exact", "fast")
    )
    for click in clicks:
        assert np.abs(exact.add(click).logits - fast.add(click).logits).max() < 0.05


def test_a_direction_ends_where_the_object_has_been_gone_for_sixteen_slices(model, monkeypatch):
    image = noise((44, 30, 40))
    segmenter = SAM2Segmenter("small", model, CPU)
    session = segmenter.start(image, MM)
    tracked = []
    decode = segmenter._tracker._decode

    def absent_far_away(steps):
        coarse, decoded = decode(steps)
        for i, step in enumerate(steps):
            tracked.append(step.z)
            decoded.masks[i] = 5.0 if abs(step.z - 12) < 3 else -5.0
        return coarse, decoded

    monkeypatch.setattr(segmenter._tracker, "_decode", absent_far_away)
    prediction = session.add(Click((12, 15, 20)))
    assert sorted(tracked) == [*range(12), *range(13, 31)]
    assert not prediction.mask[31:].any()
    assert (prediction.logits[31:] == -1024).all()


class Slices:
    """Features of so many slices, of which nobody asks for any."""

    def __init__(self, depth):
        self.depth = depth


def memory(value):
    """Return a memory with constant logits."""
    nothing = torch.zeros(1)
    return SliceMemory(torch.full((1, 1, 4, 4), value), nothing, nothing)


def track_by(rule):
    """Return a tracker that gives each slice the logits of ``rule(z)``."""
    return lambda steps: [memory(rule(step.z)) for step in steps]


def state_of(logits, conditioned, clicks):
    """Return a state of slices with constant logits, and the features of a stack as deep."""
    memories = {z: memory(value) for z, value in enumerate(logits)}
    state = StackState(clicks=tuple(clicks), prompts=len(clicks))
    state.conditioning = {z: memories[z] for z in conditioned}
    state.tracked = {z: each for z, each in memories.items() if z not in conditioned}
    return state, Slices(len(logits))


def after_a_click(logits, conditioned, z):
    """Return the state before and after one more click, on slice ``z``, and the features."""
    before, features = state_of(logits, conditioned, [Click((conditioned[0], 1, 1))])
    state = before.copy()
    state.clicks += (Click((z, 1, 1)),)
    state.prompts, state.newest = 2, (z,)
    return before, state, features


def mean_logits(state, slices):
    return [float(state.memory_of(z).logits.mean()) for z in slices]


def test_slices_between_previewed_ones_take_over_their_change():
    before, state, features = after_a_click([1.0] * 10, [0, 9], 9)
    (previews,) = preview_slices([(state, features, before)], track_by(lambda z: 1.0 + z))
    assert sorted(previews) == [2, 5, 8]
    interpolate_unvisited(state, before, set(previews))
    found = mean_logits(state, range(10))
    # 0 and 9 were clicked; the change of the others is interpolated between 2, 5 and 8.
    np.testing.assert_allclose(found, [1, 3, 3, 4, 5, 6, 7, 8, 9, 1])
    assert mean_logits(before, [4]) == [1.0]


def test_slices_at_the_end_take_over_the_change_of_the_last_one_known():
    before, state, features = after_a_click([1.0] * 8, [0, 1], 1)
    (previews,) = preview_slices([(state, features, before)], track_by(lambda z: 1.0 + z))
    interpolate_unvisited(state, before, set(previews))
    assert mean_logits(state, range(8)) == [1, 1, 3, 4, 5, 6, 6, 6]


def test_a_slice_is_not_flooded_by_a_change_that_drew_nothing():
    """From -1024, absent, to -1, present elsewhere: no voxel was gained, so none is gained beside it."""
    before, state, features = after_a_click([-1024.0] * 3 + [-1.0, -1.0, -1024.0] * 2 + [1.0], [9], 9)
    (previews,) = preview_slices([(state, features, before)], track_by(lambda z: -1.0))
    interpolate_unvisited(state, before, set(previews))
    assert all(not state.memory_of(z).shows_object for z in range(9))


def test_what_a_slice_gained_is_gained_beside_it():
    before, state, features = after_a_click([-1024.0] * 3 + [-1.0] * 6 + [1.0], [9], 9)
    (previews,) = preview_slices([(state, features, before)], track_by(lambda z: 3.0))
    interpolate_unvisited(state, before, set(previews))
    assert all(bool((state.memory_of(z).logits > 0).all()) for z in range(4, 9))


def sweep_after(before, state, features, previewed, tracks):
    """Preview, sweep, and return the slices that were tracked, in order, by direction."""
    (previews,) = preview_slices([(state, features, before)], track_by(previewed))
    tracked = {False: [], True: []}

    def step(steps):
        for each in steps:
            tracked[each.reverse].append(each.z)
        return track_by(tracks)(steps)

    propagate(pruned_sweeps(state, features, before, previews, lag=6), step)
    return tracked


def test_tracking_goes_on_from_the_click_until_two_slices_come_out_as_previewed():
    """Slices 5, 8, 11 ... are previewed; 5 comes out otherwise than previewed."""
    before, state, features = after_a_click([1.0] * 30, [3, 4], 4)
    tracked = sweep_after(before, state, features, lambda z: 1.0, lambda z: -1.0 if z < 8 else 1.0)
    assert tracked == {False: [*range(5, 12)], True: []}


def test_tracking_starts_again_at_a_slice_whose_preview_changed():
    before, state, features = after_a_click([1.0] * 45, [12, 13], 13)
    before.clicks = (Click((12, 1, 1)), Click((13, 1, 1)))  # hence slices 0, 3, 6 ... are previewed
    state.clicks = (*before.clicks, Click((13, 2, 2)))
    before.prompts, state.prompts = 2, 3
    changed = (6, 30)
    tracked = sweep_after(before, state, features, *[lambda z: -1.0 if z in changed else 1.0] * 2)
    assert tracked[False] == [*range(14, 19), *range(28, 37)]
    assert tracked[True] == [8, 7, 6, 5, 4, 3, 2, 1, 0]


def test_empty_slices_do_not_tell_that_tracking_may_stop():
    before, state, features = after_a_click([1.0] * 6 + [-1.0] * 12 + [1.0] * 6, [3, 4], 4)
    tracked = sweep_after(before, state, features, lambda z: -1.0, lambda z: -1.0 if z < 20 else 1.0)
    assert tracked[False] == [*range(5, 24)]


def sweep_up(state, features, rule, stop_after_empty):
    """Sweep upwards from slice 2 and return the slices that were tracked."""
    up = Sweep(state, features, range(3, features.depth), reverse=False, stop_after_empty=stop_after_empty)
    propagate([up], track_by(rule))
    return up.visited


def test_a_sweep_ends_after_as_many_empty_slices_as_it_is_given():
    state, features = state_of([1.0] * 3, [2], [Click((2, 1, 1))])
    features.depth = 20
    assert sweep_up(state, features, lambda z: 1.0 if z < 6 else -1.0, 3) == set(range(3, 9))
    assert state.memory_of(9) is None


def test_a_sweep_goes_on_if_a_slice_ahead_showed_the_object():
    """A negative click may empty some slices of an object that goes on behind them."""
    state, features = state_of([1.0] * 15 + [-1.0] * 5, [2], [Click((2, 1, 1))])
    assert sweep_up(state, features, lambda z: 1.0 if z > 9 else -1.0, 3) == set(range(3, 20))
    assert state.memory_of(14).shows_object


def test_three_planes_end_a_sweep_earlier_than_one(model):
    ends = {
        planes: SAM2Segmenter("small", model, CPU, options=EngineOptions(planes=planes))._tracker._stop_after_empty
        for planes in (1, 3)
    }
    assert ends == {1: 16, 3: 3}


def test_after_several_clicks_at_once_every_slice_is_tracked():
    before, state, features = after_a_click([1.0] * 9, [4, 6], 6)
    state.clicks += (Click((6, 2, 2)),)
    state.prompts += 1
    assert preview_slices([(state, features, before)], track_by(lambda z: 1.0)) == [None]
    sweeps = pruned_sweeps(state, features, before, None, lag=2)
    assert [list(sweep.order) for sweep in sweeps] == [[5, 7, 8], [3, 2, 1, 0]]
    assert all(sweep.done == 0 for sweep in sweeps)


def test_a_sweep_waits_until_its_leader_is_ahead():
    state, features = state_of([1.0] * 9, [4], [Click((4, 1, 1))])
    up = Sweep(state, features, range(5, 9), reverse=False)
    down = Sweep(state, features, range(3, -1, -1), reverse=True, leader=up, lag=2)
    batches = []
    propagate([up, down], lambda steps: batches.append([s.z for s in steps]) or track_by(lambda z: 1.0)(steps))
    assert batches == [[5], [6], [7, 3], [8, 2], [1], [0]]


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_a_batch_of_sessions_answers_as_single_sessions_do(model, mode):
    segmenter = SAM2Segmenter("small", model, CPU, exact=mode == "exact")
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


def test_a_batch_with_a_session_of_another_model_is_refused(model):
    one, other = (SAM2Segmenter(name, model, CPU) for name in ("one", "other"))
    sessions = [segmenter.start(noise((4, 20, 20)), MM) for segmenter in (one, other)]
    with pytest.raises(InputError, match="of another segmenter than 'one'"):
        one.add_many(sessions, [Click((1, 10, 10))] * 2)
    assert [session.clicks for session in sessions] == [(), ()]


def test_memory_policies_remember_other_slices(model):
    image = noise((30, 30, 40))
    clicks = [Click((z, 15, 20)) for z in (2, 6, 10, 14, 18, 22)]
    logits = {}
    for policy in ("all", "nearest", "confident"):
        segmenter = SAM2Segmenter("small", model, CPU, options=EngineOptions(memory=policy))
        session = segmenter.start(image, MM)
        for click in clicks:
            logits[policy] = session.add(click).logits
    assert np.abs(logits["all"] - logits["nearest"]).max() > 1e-4
    assert np.abs(logits["all"] - logits["confident"]).max() > 1e-4


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
        SAM2Segmenter("small", model, CPU).start(image, spacing)
