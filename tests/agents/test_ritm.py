"""Tests rules of ritm-3d-v1 alone; test_protocols.py tests what all protocols share."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from made_shapes import blob, mistaken
from reference_rules import depth

from synthfm_agents import make_clicker
from synthfm_env import Click
from synthfm_env.envs.actions import NEGATIVE, POSITIVE, STOP
from synthfm_env.error_regions import deepest_voxel

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


seeds = st.integers(0, 10_000)
shapes = st.tuples(*[st.integers(1, 7)] * 3).filter(lambda shape: max(shape) > 1)
masks = arrays(bool, shapes)


@given(seeds)
def test_empty_borders_do_not_move_the_click(seed):
    truth, pad = blob(seed), ((3, 0), (0, 5), (2, 1))
    mask = mistaken(truth, seed)
    zyx, kind = act(truth, mask)
    moved = tuple(i + before for i, (before, _) in zip(zyx, pad, strict=True))
    assert act(np.pad(truth, pad), np.pad(mask, pad)) == (moved, kind)


@given(masks)
def test_depth_in_the_crop_equals_depth_in_the_volume(region):
    found = deepest_voxel(region, [])
    whole = depth(region)
    assert found.distance == pytest.approx(whole.max())
    assert found.zyx == np.unravel_index(whole.argmax(), whole.shape)


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


def test_clicks_equal_the_golden_sequence():
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
