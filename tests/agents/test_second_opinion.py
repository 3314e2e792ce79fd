"""Tests the blind clicker that follows the opinions of other segmenters."""

import gymnasium as gym
import numpy as np
import pytest
from coarse_segmenter import Coarse

from synthfm_agents import make_clicker
from synthfm_env import Click, InputError
from synthfm_env.envs.actions import NEGATIVE, POSITIVE, STOP
from synthfm_env.segmenters import Capabilities, Prediction, Seconds, Segmenter, Session

SHAPE = (7, 20, 22)
FIRST = (3, 10, 10, POSITIVE)


class Fixed(Segmenter):
    """Answers one mask whatever the clicks, and keeps the clicks of every answer."""

    name = "fixed"
    capabilities = Capabilities()

    def __init__(self, mask):
        self.mask = mask
        self.asked = []

    def start(self, image, spacing):
        return FixedSession(self)


class FixedSession(Session):
    def __init__(self, segmenter):
        self._segmenter = segmenter
        self._clicks = []

    @property
    def clicks(self):
        return tuple(self._clicks)

    def add(self, click):
        self._clicks.append(click)
        self._segmenter.asked.append(self.clicks)
        return Prediction(self._segmenter.mask.copy(), None, Seconds(0.0, 0.0))

    def undo(self):
        self._clicks.pop()
        return Prediction(self._segmenter.mask.copy(), None, Seconds(0.0, 0.0))

    def reset(self):
        self._clicks.clear()

    def close(self):
        self._clicks.clear()


def box(*sides):
    mask = np.zeros(SHAPE, bool)
    mask[tuple(slice(*side) for side in sides)] = True
    return mask


HELD = box((2, 5), (8, 13), (8, 13))  # around the first click
LARGE, SMALL = box((1, 6), (1, 6), (1, 6)), box((2, 5), (16, 19), (16, 19))


def observed(mask, clicks=(FIRST,), spacing=(1, 1, 1), seed=0):
    rows = np.full((6, 4), -1, np.int32)
    rows[: len(clicks)] = np.reshape(clicks, (-1, 4))
    return {
        "image": np.random.default_rng(seed).integers(0, 255, SHAPE, np.uint8),
        "mask": mask.astype(np.uint8),
        "clicks": rows,
        "spacing": np.array(spacing, np.float32),
    }


def act(opinions, *args, **kwargs):
    """Return the action of a new clicker; opinions are masks."""
    clicker = make_clicker("second-opinion-v1", opinions=[Fixed(mask) for mask in opinions])
    clicker.reset(0)
    return tuple(clicker.act(observed(*args, **kwargs), {}).tolist())


def test_the_click_is_positive_in_the_middle_of_the_largest_region_that_the_mask_lacks():
    assert act([HELD | LARGE | SMALL], HELD) == (3, 3, 3, POSITIVE)


def test_the_click_is_negative_in_a_region_that_no_opinion_contains():
    assert act([HELD | SMALL], HELD | LARGE) == (3, 3, 3, NEGATIVE)


def test_a_smaller_region_follows_once_the_mask_agrees_on_the_largest():
    assert act([HELD | LARGE | SMALL], HELD | LARGE, [FIRST, (3, 3, 3, 1)]) == (3, 17, 17, POSITIVE)


def test_no_voxel_is_clicked_twice():
    *voxel, kind = act([HELD | LARGE], HELD, [FIRST, (3, 3, 3, 1)])
    assert tuple(voxel) != (3, 3, 3)
    assert LARGE[tuple(voxel)]
    assert kind == POSITIVE


def test_depth_is_in_millimetres():
    long = box((1, 6), (1, 6), (1, 12))
    assert act([HELD | long], HELD)[:3] == (3, 3, 3)
    # Slices so thin that every voxel of the middle one is as deep as any.
    assert act([HELD | long], HELD, spacing=(0.1, 1, 1))[:3] == (3, 1, 1)


def test_it_stops_if_all_agree_and_if_the_opinions_are_empty():
    assert act([HELD], HELD)[3] == STOP
    assert act([np.zeros(SHAPE, bool)], HELD)[3] == STOP


def test_of_three_opinions_two_add_a_region_and_all_remove_one():
    assert act([HELD | LARGE, HELD, HELD], HELD)[3] == STOP
    assert act([HELD | LARGE, HELD | LARGE, HELD], HELD) == (3, 3, 3, POSITIVE)
    assert act([HELD | LARGE, HELD, HELD], HELD | LARGE)[3] == STOP
    assert act([HELD, HELD, HELD], HELD | LARGE) == (3, 3, 3, NEGATIVE)


def test_later_masks_of_an_episode_do_not_change_the_target():
    clicker = make_clicker("second-opinion-v1", opinions=[Fixed(HELD | LARGE), Fixed(HELD), Fixed(HELD | SMALL)])
    clicker.reset(0)
    assert clicker.act(observed(HELD), {})[3] == STOP
    # Voxels that a later click added are false, although one opinion contains them.
    assert clicker.act(observed(HELD | LARGE, [FIRST, (0, 0, 0, 0)]), {}).tolist() == [3, 3, 3, NEGATIVE]
    clicker.reset(0)
    assert clicker.act(observed(HELD | LARGE), {})[3] == STOP


def test_of_two_opinions_one_adds_nothing():
    assert act([HELD | LARGE, HELD], HELD)[3] == STOP


def test_the_opinion_is_asked_once_an_episode_and_gets_the_first_click_alone():
    segmenter = Fixed(HELD | LARGE | SMALL)
    clicker = make_clicker("second-opinion-v1", opinions=segmenter)
    for seed in range(2):
        clicker.reset(0)
        clicks = [FIRST]
        for _ in range(3):
            clicks.append(tuple(clicker.act(observed(HELD, clicks, seed=seed), {}).tolist()))
        assert segmenter.asked == [(Click((3, 10, 10)),)] * (seed + 1)
        assert clicker.answers == seed + 1


def test_without_a_first_click_it_begins_in_the_middle():
    assert act([HELD], np.zeros(SHAPE, bool), clicks=[])[:4] == (3, 10, 11, POSITIVE)


def test_the_opinion_of_the_corrected_segmenter_itself_stops_at_once():
    env = gym.make("synthfm_env:SynthFM/Synthetic3D-v0", shape=[8, 32, 32], segmenter="geodesic", start="click")
    clicker = make_clicker("second-opinion-v1", opinions="geodesic")
    clicker.reset(0)
    observation, _ = env.reset(seed=0)
    assert clicker.act(observation, {})[3] == STOP
    env.close()


def test_the_same_episode_gets_the_same_clicks_whatever_the_seed():
    clicks = []
    for seed in (0, 1):
        env = gym.make("synthfm_env:SynthFM/Synthetic3D-v0", shape=[8, 32, 32], segmenter="geodesic", start="click")
        clicker = make_clicker("second-opinion-v1", opinions="random-walker")
        clicker.reset(seed)
        observation, _ = env.reset(seed=3)
        for _ in range(2):
            observation, *_ = env.step(clicker.act(observation, {}))
        clicks.append(observation["clicks"].tolist())
        env.close()
    assert clicks[0] == clicks[1]
    assert clicks[0][1][0] >= 0


@pytest.mark.parametrize("opinions", [[], 3, ["geodesic"], ("geodesic", "random-walker"), [Coarse(), 1], None])
def test_other_opinions_are_refused(opinions):
    with pytest.raises(InputError, match="opinions="):
        make_clicker("second-opinion-v1", opinions=opinions)


def test_an_unknown_segmenter_is_named():
    clicker = make_clicker("second-opinion-v1", opinions="geodesik")
    clicker.reset(0)
    with pytest.raises(InputError, match="geodesic"):
        clicker.act(observed(HELD), {})
