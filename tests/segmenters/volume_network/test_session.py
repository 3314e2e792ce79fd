"""Tests sessions of the volume network: contract, batches, crops, masks on the image's grid."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_network import small_segmenter

from synthfm_env import Box, Click, InputError
from synthfm_env.metrics import dice
from synthfm_env.prompts import Prompt
from synthfm_env.segmenters.volume_network.image_pyramid import ImagePyramid
from synthfm_env.segmenters.volume_network.network_input import geodesic_balances
from synthfm_env.segmenters.volume_network.resampling import resample
from synthfm_env.segmenters.volume_network.session import image_mask
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


def test_the_first_crop_is_one_whose_mask_is_like_the_geodesic_region(segmenter):
    image = picture((40, 80, 80)) // 60 * 60  # an even bright box in the middle
    session = segmenter.start(image, (1.0, 1.0, 1.0))
    asking = session.ask(Prompt((Click((20, 40, 40)),)))
    *looks, whole = next(asking)
    assert [look.crop[2] for look in looks] == [slice(28, 52), slice(16, 64), slice(0, 80)]
    assert [look.geodesic for look in (*looks, whole)] == [False, False, False, True]
    # Every answer promises as much. The second draws the box, the others fill their crops.
    box = (torch.from_numpy(image[looks[1].crop] > 60).float() - 0.5)[None, None] * 8
    replies = [(torch.full(look.prompt.image.shape, 4.0), 0.6) for look in looks]
    replies[1] = F.interpolate(box, size=replies[1][0].shape, mode="area")[0, 0], 0.6
    region = geodesic_balances([whole.prompt])[0], 0.0
    [fitted] = asking.send([*replies, region])
    assert fitted.crop == looks[1].crop


def test_a_box_is_refused(segmenter):
    with (
        segmenter.start(picture((20, 40, 44)), SPACING) as session,
        pytest.raises(InputError, match="takes no boxes"),
    ):
        session.prompt(box=Box((2, 2, 2), (9, 9, 9)))
