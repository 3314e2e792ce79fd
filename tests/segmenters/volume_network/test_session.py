"""Tests sessions of the volume network: contract, batches, crops, masks on the image's grid."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_network import small_segmenter

from synthfm_env import Box, Click, InputError
from synthfm_env.metrics import dice
from synthfm_env.prompts import Prompt
from synthfm_env.segmenters.focus import whole_crop
from synthfm_env.segmenters.volume_network.image_pyramid import ImagePyramid
from synthfm_env.segmenters.volume_network.resampling import resample
from synthfm_env.segmenters.volume_network.session import Answer, agreement, image_mask
from synthfm_env.testing import check_segmenter

SPACING = (2.0, 1.0, 1.0)


@pytest.fixture(scope="module")
def segmenter():
    return small_segmenter()


def picture(shape, seed=0):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 60, shape, dtype=np.uint8)
    image[tuple(slice(n // 4, n - n // 4) for n in shape)] += 120
    return image


def clicks_of(shape):
    d, h, w = shape
    return [
        Click((d // 2, h // 2, w // 2)),
        Click((0, 2, 3), positive=False),
        Click((d - 1, h - 2, w // 2)),
        Click((d // 2, h // 3, w // 3)),
    ]


def test_it_keeps_the_contract(segmenter):
    check_segmenter(segmenter)


@pytest.mark.parametrize("shape", [(20, 40, 44), (3, 50, 50), (1, 60, 50)])
def test_undo_restores_mask_and_logits_bit_for_bit(segmenter, shape):
    with segmenter.start(picture(shape), SPACING) as session:
        answers = [session.add(click) for click in clicks_of(shape)]
        for answer in reversed(answers[:-1]):
            restored = session.undo()
            assert np.array_equal(restored.mask, answer.mask)
            assert np.array_equal(restored.logits, answer.logits)


def test_many_sessions_at_once_answer_as_one_by_one(segmenter):
    shapes = [(20, 40, 44), (3, 50, 50), (30, 30, 30), (24, 40, 24), (1, 60, 50)]
    alone = []
    for index, shape in enumerate(shapes):
        with segmenter.start(picture(shape, index), SPACING) as session:
            alone.append([session.add(click) for click in clicks_of(shape)])
    sessions = [segmenter.start(picture(shape, index), SPACING) for index, shape in enumerate(shapes)]
    for number in range(4):
        together = segmenter.add_many(sessions, [clicks_of(shape)[number] for shape in shapes])
        for one, many in zip(alone, together, strict=True):
            assert np.array_equal(one[number].mask, many.mask)
            np.testing.assert_allclose(one[number].logits, many.logits, atol=1e-4)


def test_clicked_voxels_are_as_clicked(segmenter):
    shape = (20, 40, 44)
    with segmenter.start(picture(shape), SPACING) as session:
        for click in clicks_of(shape):
            mask = session.add(click).mask
            assert mask[click.zyx] == click.positive


def test_without_a_positive_click_the_mask_is_empty(segmenter):
    with segmenter.start(picture((20, 40, 44)), SPACING) as session:
        assert not session.add(Click((3, 3, 3), positive=False)).mask.any()
        assert session.add(Click((10, 20, 20))).mask[10, 20, 20]


def test_a_refused_click_in_a_batch_leaves_all_sessions_as_they_were(segmenter):
    first, second = (segmenter.start(picture((20, 20, 20)), SPACING) for _ in range(2))
    with pytest.raises(InputError, match="outside the volume"):
        segmenter.add_many([first, second], [Click((1, 1, 1)), Click((99, 1, 1))])
    assert first.clicks == second.clicks == ()


def test_a_mask_on_the_image_is_the_interpolated_logits_above_zero():
    logits = torch.randn(5, 6, 7, generator=torch.Generator().manual_seed(1))
    crop = (slice(2, 12), slice(3, 33), slice(0, 21))
    mask = image_mask(logits, crop, (14, 40, 22))
    expected = F.interpolate(logits[None, None], (10, 30, 21), mode="trilinear")[0, 0] > 0
    assert np.array_equal(mask[crop], expected.numpy())
    mask[crop] = False
    assert not mask.any()


@pytest.mark.parametrize(
    "crop", [(slice(0, 50), slice(10, 397), slice(3, 400)), (slice(5, 9), slice(100, 120), slice(7, 40))]
)
def test_a_crop_from_the_pyramid_is_close_to_one_from_the_image(crop):
    rng = np.random.default_rng(0)
    image = np.kron(rng.integers(0, 255, (25, 50, 50)), np.ones((2, 8, 8))).astype(np.uint8)
    found = ImagePyramid(image).crop(crop, (16, 16, 16))
    expected = resample(torch.from_numpy(image[crop]), (16, 16, 16))
    assert (found - expected).abs().max() < 4


def test_rounded_means_are_never_off_by_more_than_one_at_the_first_level():
    image = np.random.default_rng(0).integers(0, 256, (200, 3, 201), dtype=np.uint8)
    pyramid = ImagePyramid(image)
    level = pyramid._levels[1].numpy().astype(float)
    padded = np.pad(image.astype(float), ((0, 0), (0, 0), (0, 1)), mode="edge")
    expected = padded.reshape(100, 2, 3, 101, 2).mean((1, 4))
    assert np.abs(level - expected).max() <= 1


def test_a_mask_alone_is_the_answer(segmenter):
    mask = np.zeros((24, 40, 40), bool)
    mask[6:18, 10:30, 12:28] = True
    with segmenter.start(picture(mask.shape), SPACING) as session:
        assert dice(session.prompt(mask=mask).mask, mask) > 0.95
        session.add(Click((20, 20, 20)))
        session.undo()
        assert session.clicks == ()
        assert not session.undo().mask.any()


def test_one_undo_takes_back_a_prompt_of_several_clicks(segmenter):
    clicks = clicks_of((20, 40, 44))
    with segmenter.start(picture((20, 40, 44)), SPACING) as session:
        first = session.add(clicks[0])
        session.prompt(clicks[1:])
        assert session.clicks == tuple(clicks)
        assert np.array_equal(session.undo().mask, first.mask)
        assert session.clicks == (clicks[0],)


def box_logits(grid, low, high):
    logits = torch.full(grid, -4.0)
    logits[tuple(slice(*ends) for ends in zip(low, high, strict=True))] = 4.0
    return logits


def test_agreement_is_the_dice_of_the_masks_whatever_their_crops():
    grid = (16, 16, 16)
    whole, corner = (slice(0, 32),) * 3, (slice(0, 16),) * 3
    in_whole = Answer((), whole, box_logits(grid, (2, 2, 2), (6, 6, 6)), 0.5)  # voxels 4 to 12 of the image
    in_corner = Answer((), corner, box_logits(grid, (4, 4, 4), (12, 12, 12)), 0.5)
    elsewhere = Answer((), whole, box_logits(grid, (9, 9, 9), (14, 14, 14)), 0.5)
    assert agreement(in_whole, in_corner) == agreement(in_corner, in_whole) > 0.9
    assert agreement(in_corner, elsewhere) == 0
    assert agreement(in_whole, in_whole) == 1


@pytest.mark.parametrize(("promised", "taken"), [(0.5, False), (0.7, True)])
def test_an_answer_that_replaces_the_mask_needs_more_predicted_dice(segmenter, promised, taken):
    session = segmenter.start(picture((32, 40, 40)), SPACING)
    grid = (40, 40, 40)
    # 1. A first answer at the low end of the crop, of low predicted Dice; so is its correction.
    session.extend(Prompt((Click((16, 20, 20)),)))
    session._history[-1] = Answer(session.clicks, whole_crop((32, 40, 40)), box_logits(grid, (2,) * 3, (12,) * 3), 0.4)
    asking = session.ask(Prompt((Click((4, 4, 4)),)))
    next(asking)
    looks = asking.send([(box_logits(grid, (2,) * 3, (13,) * 3), 0.4)])
    # 2. Crops for all clicks afresh, then the best of them fitted: each answer lies at the high end of the image.
    asking.send([(box_logits(look.prompt.image.shape, (18,) * 3, (24,) * 3), promised) for look in looks])
    reply = [(box_logits(grid, (24,) * 3, (36,) * 3), promised)]
    # 3. Better crops promise nothing.
    try:
        while True:
            asking.send(reply)
            reply = [(box_logits(grid, (24,) * 3, (36,) * 3), 0.0)]
    except StopIteration as stop:
        answer = stop.value
    assert (answer.quality == promised) is taken


def test_a_box_is_refused(segmenter):
    with (
        segmenter.start(picture((20, 40, 44)), SPACING) as session,
        pytest.raises(InputError, match="takes no boxes"),
    ):
        session.prompt(box=Box((2, 2, 2), (9, 9, 9)))
