"""Properties of the click rule ritm-3d-v1, and a golden sequence that scipy gives."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from synthfm_agents import make_clicker
from synthfm_agents.regions import deepest
from synthfm_env import Click
from synthfm_env.envs.actions import NEGATIVE, POSITIVE, STOP

RITM = make_clicker("ritm-3d-v1")


def act(truth, mask, clicks=()):
    """Return what the clicker does about a mask, as (voxel, kind)."""
    rows = np.full((len(GOLDEN), 4), -1, np.int32)
    for row, click in zip(rows, clicks, strict=False):
        row[:] = (*click.zyx, click.positive)
    observation = {
        "image": np.zeros(truth.shape, np.uint8),
        "mask": mask.astype(np.uint8),
        "clicks": rows,
        "spacing": np.ones(3, np.float32),
    }
    *zyx, kind = RITM.act(observation, {"truth": truth}).tolist()
    return tuple(zyx), kind


def depth_of(region):
    """Depth by scipy on the whole volume; an axis of one voxel has no edge."""
    pad = [(1, 1) if n > 1 else (0, 0) for n in region.shape]
    depth = ndimage.distance_transform_edt(np.pad(region, pad))
    return depth[tuple(slice(before, before + n) for (before, _), n in zip(pad, region.shape, strict=True))]


def scipy_click(truth, mask, clicked=()):
    """The rule as written down in the literature: whole volume, padded, scipy."""
    depths = []
    for region in (truth & ~mask, ~truth & mask):
        depth = depth_of(region)
        for voxel in clicked:
            depth[voxel] = 0
        depths.append(depth)
    positive = depths[0].max() > depths[1].max()
    depth = depths[0] if positive else depths[1]
    if depth.max() == 0:
        return (0, 0, 0), STOP
    first = np.argwhere(depth == depth.max())[0]
    return tuple(first.tolist()), POSITIVE if positive else NEGATIVE


def blob(seed, shape=(14, 17, 19), sigma=2.0):
    """A smooth random region of about a third of the volume."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), sigma)
    return field > np.quantile(field, 0.67)


def mistaken(truth, seed):
    """A mask that leaks here and misses there."""
    return truth ^ blob(seed + 1000, truth.shape, sigma=1.5)


def deepest_voxels(truth, mask):
    """All voxels of greatest depth on the side the rule picks, where ties may fall either way."""
    depths = [depth_of(truth & ~mask), depth_of(~truth & mask)]
    depth = depths[0] if depths[0].max() > depths[1].max() else depths[1]
    return {tuple(v) for v in np.argwhere(depth == depth.max()).tolist()}


seeds = st.integers(0, 10_000)
shapes = st.tuples(*[st.integers(1, 7)] * 3).filter(lambda shape: max(shape) > 1)
masks = arrays(bool, shapes)


@given(st.data(), masks)
def test_equals_the_rule_on_the_whole_volume(data, truth):
    mask = data.draw(arrays(bool, truth.shape))
    voxels = st.tuples(*(st.integers(0, n - 1) for n in truth.shape))
    clicked = data.draw(st.lists(voxels, max_size=4))
    assert act(truth, mask, [Click(v) for v in clicked]) == scipy_click(truth, mask, clicked)


@given(seeds)
def test_click_lies_on_an_error_and_its_sign_is_the_truth_there(seed):
    truth = blob(seed)
    mask = mistaken(truth, seed)
    zyx, kind = act(truth, mask)
    assert mask[zyx] != truth[zyx]
    assert (kind == POSITIVE) == truth[zyx]


@given(seeds)
def test_only_missed_voxels_give_a_positive_click_only_false_ones_a_negative(seed):
    truth = blob(seed)
    part = truth & blob(seed + 1)
    if (part == truth).all():
        part = np.zeros_like(truth)
    assert act(truth, part)[1] == POSITIVE
    assert act(part, truth)[1] == NEGATIVE


@given(seeds, st.sampled_from([0, 1, 2]))
def test_mirrored_volumes_get_mirrored_clicks(seed, axis):
    truth = blob(seed)
    mask = mistaken(truth, seed)
    zyx, kind = act(np.flip(truth, axis), np.flip(mask, axis))
    back = list(zyx)
    back[axis] = truth.shape[axis] - 1 - back[axis]
    assert tuple(back) in deepest_voxels(truth, mask)
    assert kind == act(truth, mask)[1]


@given(seeds, st.permutations([0, 1, 2]))
def test_permuted_axes_permute_the_click(seed, order):
    truth = blob(seed)
    mask = mistaken(truth, seed)
    zyx, kind = act(truth.transpose(order), mask.transpose(order))
    back = tuple(zyx[order.index(axis)] for axis in range(3))
    assert back in deepest_voxels(truth, mask)
    assert kind == act(truth, mask)[1]


@given(seeds, seeds)
def test_correct_voxels_elsewhere_do_not_move_the_click(seed, other):
    truth = blob(seed)
    mask = mistaken(truth, seed)
    correct = (truth == mask) & blob(other)
    assert act(truth | correct, mask | correct) == act(truth, mask)


@given(seeds)
def test_empty_borders_do_not_move_the_click(seed):
    truth, pad = blob(seed), ((3, 0), (0, 5), (2, 1))
    mask = mistaken(truth, seed)
    zyx, kind = act(truth, mask)
    moved = tuple(i + before for i, (before, _) in zip(zyx, pad, strict=True))
    assert act(np.pad(truth, pad), np.pad(mask, pad)) == (moved, kind)


@given(masks)
def test_depth_in_the_crop_equals_depth_in_the_volume(region):
    found = deepest(region, [])
    depth = depth_of(region)
    assert found.distance == pytest.approx(depth.max())
    assert found.zyx == np.unravel_index(depth.argmax(), depth.shape)


@given(seeds)
def test_a_perfect_mask_stops(seed):
    truth = blob(seed)
    assert act(truth, truth)[1] == STOP


def test_a_2d_image_is_clicked_as_in_two_dimensions():
    truth = np.zeros((1, 20, 20), bool)
    truth[0, 4:13, 6:15] = True
    assert act(truth, np.zeros_like(truth)) == ((0, 8, 10), POSITIVE)


def test_stops_when_every_wrong_voxel_has_been_clicked():
    truth = np.zeros((3, 3, 3), bool)
    truth[1, 1, 1] = True
    clicks = [Click((1, 1, 1))]
    assert act(truth, np.zeros_like(truth)) == ((1, 1, 1), POSITIVE)
    assert act(truth, np.zeros_like(truth), clicks)[1] == STOP


def test_equally_deep_errors_give_a_negative_click():
    truth, mask = np.zeros((2, 1, 9, 9), bool)
    truth[0, 1:4, 1:4] = True
    mask[0, 5:8, 5:8] = True
    assert act(truth, mask) == ((0, 6, 6), NEGATIVE)


@settings(max_examples=20)
@given(seeds)
def test_same_seed_same_clicks_and_no_global_chance(seed):
    truth = blob(seed)
    mask = mistaken(truth, seed)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    RITM.reset(seed)
    first = act(truth, mask)
    RITM.reset(seed)
    assert act(truth, mask) == first
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


def box(z, y, x):
    """Return a (12, 16, 16) region that is one box."""
    region = np.zeros((12, 16, 16), bool)
    region[slice(*z), slice(*y), slice(*x)] = True
    return region


# Written down from a separate script: scipy's transform of the whole padded volume, no code of this project.
GOLDEN = [
    ((5, 6, 4), POSITIVE),
    ((2, 2, 11), NEGATIVE),
    ((8, 10, 8), POSITIVE),
    ((3, 10, 2), POSITIVE),
    ((3, 10, 6), POSITIVE),
    ((7, 9, 12), POSITIVE),
    ((7, 10, 2), POSITIVE),
    ((7, 13, 12), POSITIVE),
    ((1, 5, 14), NEGATIVE),
    ((0, 0, 14), NEGATIVE),
    ((0, 5, 9), NEGATIVE),
    ((3, 0, 14), NEGATIVE),
]


def test_golden_sequence():
    """A toy model that, after each click, gets the cube of side 5 around it right."""
    truth = box((2, 9), (3, 12), (1, 8)) | box((6, 11), (8, 15), (6, 14))
    mask = box((0, 6), (0, 7), (9, 16))
    clicks: list[Click] = []
    for expected in GOLDEN:
        zyx, kind = act(truth, mask, clicks)
        assert (zyx, kind) == expected
        clicks.append(Click(zyx, kind == POSITIVE))
        around = tuple(slice(max(0, i - 2), i + 3) for i in zyx)
        mask[around] = truth[around]
