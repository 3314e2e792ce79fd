"""Tests properties of every click protocol; ``EXCEPT`` lists the rules that differ, with the reason."""

import numpy as np
import pytest
import reference_rules
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from made_shapes import blob, mistaken

from synthfm_agents import list_protocols, make_clicker
from synthfm_env import InputError
from synthfm_env.envs.actions import NEGATIVE, POSITIVE, STOP

ALL = tuple(list_protocols())
NO_MASK = "clicks follow from the truth alone, whatever the mask"
BY_SLICE = "the slice is chosen by its number or its score"
EXCEPT = {
    "on an error": {"synthfm-v1": NO_MASK, "synthfm-v2": NO_MASK, "dong2024-v1": NO_MASK},
    "one kind of error": {"synthfm-v1": NO_MASK, "synthfm-v2": NO_MASK, "dong2024-v1": NO_MASK},
    "any axis": {"sam2-offline-v1": BY_SLICE, "shen2024-v1": BY_SLICE, "dong2024-v1": BY_SLICE},
    "up-sampling": {
        "monai-deepgrow-v1": "a draw from the whole error",
        "sammed3d-random-v1": "a draw from the whole error",
    },
    "correct voxels elsewhere": {
        "synthfm-v1": NO_MASK,
        "synthfm-v2": NO_MASK,
        "dong2024-v1": NO_MASK,
        "sam2-offline-v1": BY_SLICE,
        "shen2024-v1": BY_SLICE,
    },
    "perfect mask": {"synthfm-v1": NO_MASK, "synthfm-v2": NO_MASK, "dong2024-v1": NO_MASK},
    "thin error": {
        "vista3d-v1": "errors that an erosion removes are beyond the rule",
        "shen2024-v1": "stops at a depth of 1.42 pixels",
    },
}
few = settings(max_examples=20)
seeds = st.integers(0, 10_000)
SPACINGS = [(1.0, 1.0, 1.0), (4.0, 0.5, 0.5), (0.5, 1.0, 2.0)]


def keeping(what):
    """Run a test for all protocols that keep a property."""
    return pytest.mark.parametrize("name", [name for name in ALL if name not in EXCEPT.get(what, ())])


def act(name, truth, mask, clicks=(), spacing=(1.0, 1.0, 1.0), seed=0):
    """Return what a protocol does about a mask, as (voxel, kind)."""
    clicker = make_clicker(name)
    clicker.reset(seed)
    rows = np.full((12, 4), -1, np.int32)
    rows[: len(clicks)] = np.reshape(clicks, (-1, 4))
    observation = {
        "image": np.zeros(truth.shape, np.uint8),
        "mask": mask.astype(np.uint8),
        "clicks": rows,
        "spacing": np.array(spacing, np.float32),
    }
    *zyx, kind = clicker.act(observation, {"truth": truth}).tolist()
    return tuple(zyx), kind


def fits(found, truth, allowed):
    """Whether an action is among the admissible ones."""
    (zyx, kind), (voxels, right) = found, allowed
    if STOP in (kind, right):
        return kind == right
    return zyx in voxels and kind == (int(truth[zyx]) if right is None else right)


@pytest.mark.parametrize("name", ALL)
@few
@given(seeds)
def test_the_sign_is_the_truth_at_the_click(name, seed):
    truth = blob(seed)
    zyx, kind = act(name, truth, mistaken(truth, seed))
    assume(kind != STOP)
    assert (kind == POSITIVE) == truth[zyx]


@keeping("on an error")
@few
@given(seeds)
def test_the_click_is_on_an_error(name, seed):
    truth = blob(seed)
    mask = mistaken(truth, seed)
    zyx, kind = act(name, truth, mask)
    assume(kind != STOP)
    assert truth[zyx] != mask[zyx]


@keeping("one kind of error")
@few
@given(seeds)
def test_missed_voxels_alone_give_a_positive_click_false_ones_a_negative(name, seed):
    truth = blob(seed)
    part = truth & blob(seed + 1)
    missed, false = act(name, truth, part), act(name, part, truth)
    assume(STOP not in (missed[1], false[1]))
    assert (missed[1], false[1]) == (POSITIVE, NEGATIVE)


@pytest.mark.parametrize("name", ALL)
@few
@given(st.data(), seeds)
def test_mirrored_volumes_get_mirrored_clicks(name, data, seed):
    axis = data.draw(st.sampled_from([1, 2] if name in EXCEPT["any axis"] else [0, 1, 2]))
    truth = blob(seed)
    mask = mistaken(truth, seed)
    assume(not reference_rules.ambiguous(truth, mask))
    zyx, kind = act(name, np.flip(truth, axis), np.flip(mask, axis))
    back = list(zyx)
    back[axis] = truth.shape[axis] - 1 - back[axis]
    assert fits((tuple(back), kind), truth, reference_rules.admissible(name, truth, mask))


@pytest.mark.parametrize("name", ALL)
@few
@given(st.data(), seeds, st.sampled_from(SPACINGS))
def test_permuted_axes_permute_the_click(name, data, seed, spacing):
    order = data.draw(st.just([0, 2, 1]) if name in EXCEPT["any axis"] else st.permutations([0, 1, 2]))
    truth = blob(seed)
    mask = mistaken(truth, seed)
    assume(not reference_rules.ambiguous(truth, mask))
    turned = tuple(spacing[axis] for axis in order)
    zyx, kind = act(name, truth.transpose(order), mask.transpose(order), spacing=turned)
    back = tuple(zyx[order.index(axis)] for axis in range(3))
    assert fits((back, kind), truth, reference_rules.admissible(name, truth, mask, (), spacing))


@keeping("up-sampling")
@few
@given(seeds, st.integers(3, 5), st.integers(2, 3))
def test_up_sampling_keeps_the_place(name, seed, radius, factor):
    centre = np.random.default_rng(seed).integers(5, 9, 3)
    apart = np.linalg.norm(np.indices((14, 14, 14)).T - centre, axis=-1).T
    truth = apart <= radius
    finer = truth.repeat(factor, 0).repeat(factor, 1).repeat(factor, 2)
    coarse, kind = act(name, truth, np.zeros_like(truth))
    fine, kind_of_finer = act(name, finer, np.zeros_like(finer), spacing=(1 / factor,) * 3)
    assert kind == kind_of_finer == POSITIVE
    assert np.abs((np.array(fine) + 0.5) / factor - 0.5 - coarse).max() <= 1


@keeping("correct voxels elsewhere")
@few
@given(seeds, seeds)
def test_correct_voxels_elsewhere_do_not_move_the_click(name, seed, other):
    truth = blob(seed)
    mask = mistaken(truth, seed)
    correct = (truth == mask) & blob(other)
    assert act(name, truth | correct, mask | correct) == act(name, truth, mask)


@pytest.mark.parametrize("name", ALL)
@few
@given(seeds)
def test_same_seed_same_click_and_no_global_chance(name, seed):
    truth = blob(seed)
    mask = mistaken(truth, seed)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    assert act(name, truth, mask, seed=seed) == act(name, truth, mask, seed=seed)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=60)
@given(st.data())
def test_equals_the_rule_on_the_whole_volume(name, data):
    shape = data.draw(st.tuples(*[st.integers(1, 7)] * 3).filter(lambda shape: max(shape) > 1))
    truth, mask = (data.draw(arrays(bool, shape)) for _ in range(2))
    voxels = st.tuples(*(st.integers(0, n - 1) for n in shape))
    clicks = [(*v, int(truth[v])) for v in data.draw(st.lists(voxels, max_size=5))]
    spacing = data.draw(st.sampled_from(SPACINGS))
    allowed = reference_rules.admissible(name, truth, mask, clicks, spacing)
    assert fits(act(name, truth, mask, clicks, spacing), truth, allowed)


@keeping("perfect mask")
@few
@given(seeds)
def test_a_perfect_mask_stops(name, seed):
    truth = blob(seed)
    assert act(name, truth, truth)[1] == STOP


@keeping("thin error")
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_an_error_one_voxel_thick_still_gets_a_click(name, axis):
    truth, mask = np.zeros((2, 9, 10, 11), bool)
    np.moveaxis(truth, axis, 0)[4] = True
    assert act(name, truth, mask)[1] == POSITIVE


@pytest.mark.parametrize("name", sorted(EXCEPT["thin error"]))
def test_thin_errors_are_beyond_two_of_the_rules(name):
    truth, mask = np.zeros((2, 9, 10, 11), bool)
    truth[:, 4] = True
    assert act(name, truth, mask)[1] == STOP


@pytest.mark.parametrize("shape", [(1, 20, 22), (1, 1, 9), (9, 1, 9)])
@pytest.mark.parametrize("name", ALL)
def test_axes_of_one_voxel_have_no_edge(name, shape):
    truth = np.ones(shape, bool)
    truth[tuple(np.array(shape) // 2)] = False
    allowed = reference_rules.admissible(name, truth, np.zeros_like(truth))
    assert fits(act(name, truth, np.zeros_like(truth)), truth, allowed)


def test_draws_of_deepgrow_go_where_the_error_is_deep():
    truth, mask = np.zeros((2, 1, 9, 9), bool)
    truth[0, 1:8, 1:8] = True
    clicker = make_clicker("monai-deepgrow-v1")
    clicker.reset(0)
    observation = {
        "image": truth.astype(np.uint8),
        "mask": mask.astype(np.uint8),
        "clicks": np.full((1, 4), -1),
        "spacing": np.ones(3),
    }
    hits = np.zeros(truth.shape)
    for _ in range(3000):
        hits[tuple(clicker.act(observation, {"truth": truth})[:3])] += 1
    expected = reference_rules.deepgrow_chances(truth, mask)
    assert hits[truth] / 3000 == pytest.approx(expected, abs=0.03)


def test_millimetres_see_thick_slices():
    truth, mask = np.zeros((2, 9, 30, 30), bool)
    truth[1:6, 2:5, 2:5] = True  # five slices deep, three pixels wide
    truth[7, 10:20, 10:20] = True  # one slice, ten pixels wide
    assert act("ritm-3d-v1", truth, mask)[0] == (2, 3, 3)
    assert act("synthfm-mm-v1", truth, mask, spacing=(8.0, 0.5, 0.5))[0] == (7, 14, 14)


def test_millimetres_ignore_small_errors():
    truth = np.zeros((20, 24, 24), bool)
    truth[1:19, 1:20, 1:20] = True  # 6498 voxels
    mask = truth.copy()
    mask[3:6, 3:6, 3:6] = False  # 27 voxels, under 1 %
    clicks, fine = [(10, 10, 10, 1)], (0.5, 0.5, 0.5)
    assert act("synthfm-mm-v1", truth, mask, clicks)[1] == POSITIVE
    assert act("synthfm-mm-v1", truth, mask, clicks, fine)[1] == STOP
    assert act("synthfm-mm-v1", truth, mask, [], fine)[1] == POSITIVE
    truth[:, :, 8:] = mask[:, :, 8:] = False  # now it is more than 1 % of the structure
    assert act("synthfm-mm-v1", truth, mask, clicks, fine)[1] == POSITIVE


def test_pairs_place_positives_then_negatives_apart():
    truth = blob(3)
    clicker = make_clicker("synthfm-v1", positives=3, negatives=2)
    clicker.reset(0)
    rows = np.full((6, 4), -1, np.int32)
    observation = {"image": truth, "mask": truth, "clicks": rows, "spacing": np.ones(3)}
    for step in range(6):
        action = clicker.act(observation, {"truth": truth})
        rows[step] = action if action[3] != STOP else -1
    assert rows[:5, 3].tolist() == [1, 1, 1, 0, 0]
    assert action[3] == STOP
    assert len({tuple(row) for row in rows[:5].tolist()}) == 5
    assert [bool(truth[tuple(row[:3])]) for row in rows[:5]] == [True] * 3 + [False] * 2


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("synthfm-v1", {"positives": 0, "negatives": 0}),
        ("synthfm-v1", {"negatives": -1}),
        ("synthfm-mm-v1", {"smallest_mm3": -1}),
        ("synthfm-mm-v1", {"smallest_mm3": float("nan")}),
    ],
)
def test_wrong_parameters_are_named(name, params):
    with pytest.raises(InputError, match=f"{name}.*expected"):
        make_clicker(name, **params)
