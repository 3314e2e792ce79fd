"""Tests the crops that the default session proposes, with masks and no model."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from made_shapes import ball_at

from synthfm_env.prompts import Box, Click, Prompt
from synthfm_env.segmenters.sam2.multiview.focus import MultiViewFocus

VOLUME, IMAGE = (40, 120, 120), (1, 160, 160)
MIDDLE = (20, 60, 60)  # of VOLUME


@dataclass
class Seen:
    """An answer of numpy arrays."""

    prompts: tuple[Prompt, ...]
    crop: tuple[slice, slice, slice]
    native: np.ndarray
    sparse: bool = False
    inside: np.ndarray = field(init=False)

    def __post_init__(self):
        self.inside = self.native[self.crop]

    def mask(self, shape):
        assert self.native.shape == shape
        return self.native


def whole(shape):
    return tuple(slice(0, n) for n in shape)


def clicks(*signs, shape=VOLUME):
    middle = tuple(n // 2 for n in shape)
    return tuple(Prompt((Click(middle, sign),)) for sign in signs)


def test_a_small_object_gets_a_crop_of_its_own_with_a_margin():
    mask = ball_at(VOLUME, MIDDLE, 6)
    proposal = MultiViewFocus(VOLUME).refit(Seen(clicks(True), whole(VOLUME), mask))
    for side, middle in zip(proposal.crop, MIDDLE, strict=True):
        assert side.start <= middle - 5 - 4
        assert side.stop >= middle + 6 + 4
        assert side.stop - side.start < 24


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_an_object_that_meets_a_side_gets_a_larger_crop(axis):
    crop = (slice(10, 30), slice(40, 80), slice(40, 80))
    middle = [slice(14, 26), slice(48, 72), slice(48, 72)]
    middle[axis] = slice(crop[axis].start, middle[axis].stop)
    mask = np.zeros(VOLUME, bool)
    mask[tuple(middle)] = True
    proposal = MultiViewFocus(VOLUME).refit(Seen(clicks(True), crop, mask))
    assert proposal.crop[axis].start < crop[axis].start


def test_an_object_that_fits_its_crop_keeps_it():
    mask = ball_at(VOLUME, MIDDLE, 10)
    crop = (slice(4, 36), slice(44, 76), slice(44, 76))
    assert MultiViewFocus(VOLUME).refit(Seen(clicks(True), crop, mask)) is None


def test_an_overview_is_always_followed_by_a_full_view():
    mask = ball_at(VOLUME, MIDDLE, 30)
    seen = Seen(clicks(True), whole(VOLUME), mask, sparse=True)
    assert MultiViewFocus(VOLUME).refit(seen) is not None


@pytest.mark.parametrize(
    "prompt",
    [Prompt((Click((30, 100, 100)),)), Prompt((), Box((30, 100, 100), (31, 101, 101)))],
    ids=["click", "box"],
)
def test_every_positive_prompt_is_inside_the_crop(prompt):
    seen = Seen((*clicks(True), prompt), whole(VOLUME), ball_at(VOLUME, MIDDLE, 5))
    crop = MultiViewFocus(VOLUME).refit(seen).crop
    assert all(side.start <= at < side.stop for side, at in zip(crop, (30, 100, 100), strict=True))


@pytest.mark.parametrize(
    "seen",
    [
        Seen(clicks(True), whole(VOLUME), np.zeros(VOLUME, bool)),
        Seen(clicks(False), whole(VOLUME), ball_at(VOLUME, MIDDLE, 5)),
    ],
)
def test_without_a_mask_or_a_positive_prompt_nothing_is_proposed(seen):
    assert MultiViewFocus(VOLUME).refit(seen) is None


def test_a_crop_on_which_the_object_is_lost_is_refused():
    seen = Seen(clicks(True), whole(VOLUME), ball_at(VOLUME, MIDDLE, 6))
    proposal = MultiViewFocus(VOLUME).refit(seen)
    assert not proposal.accepts(Seen(seen.prompts, proposal.crop, np.zeros(VOLUME, bool)))
    assert proposal.accepts(Seen(seen.prompts, proposal.crop, ball_at(VOLUME, MIDDLE, 2)))


def test_in_an_image_a_piece_of_the_object_is_refused():
    large, small = ball_at(IMAGE, (0, 80, 80), 20), ball_at(IMAGE, (0, 80, 80), 6)
    seen = Seen(clicks(True, shape=IMAGE), whole(IMAGE), large)
    proposal = MultiViewFocus(IMAGE).refit(seen)
    assert not proposal.accepts(Seen(seen.prompts, proposal.crop, small))
    assert proposal.accepts(Seen(seen.prompts, proposal.crop, large))
