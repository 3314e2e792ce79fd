"""Tests views, ensemble and crops of the default session together; a fake view replaces SAM 2 if possible."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from made_shapes import ball_at

from synthfm_env.geometry import Crop
from synthfm_env.metrics import dice
from synthfm_env.prompts import Box, Click, Prompt
from synthfm_env.segmenters import make_segmenter
from synthfm_env.segmenters.sam2 import SAM2Segmenter
from synthfm_env.segmenters.sam2.multiview.orientation import ALL_ORIENTATIONS, IDENTITY, Orientation
from synthfm_env.segmenters.sam2.multiview.session import MultiViewSession
from synthfm_env.segmenters.sam2.multiview.view import MultiView
from synthfm_env.segmenters.sam2.tracking.stack import Stack
from synthfm_env.segmenters.sam2.tracking.stack_session import StackSession
from synthfm_env.segmenters.stopwatch import Stopwatch
from synthfm_env.segmenters.volume_network.segmenter import VolumeNetworkSegmenter

MM = (1.0, 1.0, 1.0)
SHAPE = (12, 64, 72)
CENTRE = (5, 20, 50)


def ball(shape: tuple[int, int, int], centre: tuple[int, int, int], radius: float) -> np.ndarray:
    """Return a bright ball on a noisy ground, uint8."""
    away = sum((i - c) ** 2 for i, c in zip(np.indices(shape), centre, strict=True))
    image = np.where(away < radius**2, 180.0, 60.0)
    return np.clip(image + np.random.default_rng(3).normal(0, 5, shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def plain() -> SAM2Segmenter:
    segmenter = make_segmenter("synthfm3d-nano", "cpu", "fast")
    assert isinstance(segmenter, SAM2Segmenter)
    return segmenter


@pytest.fixture(scope="module")
def closely() -> SAM2Segmenter:
    """The default."""
    segmenter = make_segmenter("synthfm3d-nano", device="cpu")
    assert isinstance(segmenter, SAM2Segmenter)
    return segmenter


@pytest.fixture
def session(closely: SAM2Segmenter) -> MultiViewSession:
    opened = closely.start(ball(SHAPE, CENTRE, 6), MM)
    assert isinstance(opened, MultiViewSession)
    return opened


def view(plain: SAM2Segmenter, image: np.ndarray, planes: int) -> MultiView:
    """Return a view of a whole image."""

    def open_stack(slices: np.ndarray) -> Stack:
        return Stack(plain._tracker, slices, 2**30, Stopwatch())

    depth, height, width = image.shape
    return MultiView(open_stack, image, (slice(0, depth), slice(0, height), slice(0, width)), planes=planes, side=48)


def answer(seen: MultiView, *clicks: Click) -> torch.Tensor:
    return seen.logits(seen.track(seen.start, [Prompt((click,)) for click in clicks]))


def test_one_plane_of_the_whole_image_gives_the_logits_of_its_slices(plain: SAM2Segmenter) -> None:
    image = ball((9, 48, 48), (4, 24, 20), 9)
    seen = view(plain, image, planes=1)
    session, states = plain.start(image, MM), seen.start
    for click in (Click((4, 24, 20)), Click((7, 40, 40), False)):
        expected = session.add(click).logits
        assert expected is not None
        states = seen.track(states, [Prompt((click,))])
        np.testing.assert_array_equal(seen.logits(states)[0].numpy(), expected.clip(-8, 8))


@pytest.mark.slow
def test_turning_the_image_turns_the_answer(plain: SAM2Segmenter) -> None:
    """Three planes prefer no axis."""
    image = ball((40, 40, 40), (14, 20, 25), 8)
    straight = answer(view(plain, image, planes=3), Click((14, 20, 25))).mean(0)
    turned = view(plain, np.ascontiguousarray(image.transpose(1, 0, 2)), planes=3)
    # The third plane comes mirrored, and a network is no mirror: most of the two answers is the same all the same.
    back = answer(turned, Click((20, 14, 25))).mean(0).permute(1, 0, 2)
    assert float(((back > 0) == (straight > 0)).float().mean()) > 0.98


ORIENTED, AT = ball((1, 40, 56), (0, 14, 25), 8), (14, 25)


@pytest.fixture(scope="module")
def straight(plain: SAM2Segmenter) -> torch.Tensor:
    """Return the logits of an image that is not turned."""
    return answer(view(plain, ORIENTED, planes=3), Click((0, *AT))).mean(0)


@pytest.mark.parametrize("orientation", [each for each in ALL_ORIENTATIONS if each != IDENTITY])
def test_however_an_image_is_oriented_the_answer_is_the_same(
    plain: SAM2Segmenter, straight: torch.Tensor, orientation: Orientation
) -> None:
    """An image is tracked in all orientations, so none of them is another question."""
    click = Click((0, *orientation.apply_to_pixel(*AT, (40, 56))))
    turned = answer(view(plain, orientation.apply(ORIENTED), planes=3), click).mean(0)
    assert bool((straight > 0).any())
    np.testing.assert_allclose(orientation.invert(turned).numpy(), straight.numpy(), atol=2e-2)


def test_a_long_axis_is_tracked_on_as_many_slices_as_a_mask_has_pixels(plain: SAM2Segmenter) -> None:
    image = ball((100, 20, 20), (70, 10, 10), 6)
    logits = answer(view(plain, image, planes=1), Click((70, 10, 10)))[0]
    assert logits.shape == (96, 20, 20)
    on = torch.nonzero((logits > 0).any(-1).any(-1))
    assert int(on.min()) <= 70 * 0.96 <= int(on.max()) + 1


def test_tracking_leaves_the_states_before_as_they_were(plain: SAM2Segmenter) -> None:
    image = ball((9, 48, 48), (4, 24, 20), 9)
    seen = view(plain, image, planes=1)
    first = seen.track(seen.start, [Prompt((Click((4, 24, 20)),))])
    before = seen.logits(first)
    seen.track(first, [Prompt((Click((4, 30, 20), False),))])
    assert torch.equal(seen.logits(first), before)
    assert [state.prompts for state in seen.start] == [0]


def test_a_small_object_is_answered_on_a_crop(session: MultiViewSession) -> None:
    mask = session.add(Click(CENTRE)).mask
    truth = ball(SHAPE, CENTRE, 6) > 120
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.7
    z, y, x = session._history[-1].crop
    assert all(side.start <= c < side.stop for side, c in zip((z, y, x), CENTRE, strict=True))
    assert (y.stop - y.start) * (x.stop - x.start) < 0.5 * SHAPE[1] * SHAPE[2]


@pytest.mark.slow
def test_undo_returns_through_every_crop_bit_for_bit(session: MultiViewSession) -> None:
    clicks = [Click(CENTRE), Click((8, 50, 10)), Click((8, 50, 12), False), Click((5, 24, 50)), Click((0, 2, 2), False)]
    answers = [session.add(click) for click in clicks]
    crops = {str(answer.crop) for answer in session._history}
    assert len(crops) > 1, "the clicks were chosen so that another crop is proposed"
    for expected in answers[-2::-1]:
        back = session.undo()
        np.testing.assert_array_equal(back.mask, expected.mask)
        np.testing.assert_array_equal(back.logits, expected.logits)
    assert not session.undo().mask.any()
    # And forward again, over the views that undo left behind.
    for click, expected in zip(clicks, answers, strict=True):
        np.testing.assert_array_equal(session.add(click).mask, expected.mask)


@pytest.mark.slow
def test_reset_forgets_all(session: MultiViewSession) -> None:
    first = session.add(Click(CENTRE))
    session.add(Click((8, 50, 10)))
    session.reset()
    assert session.clicks == ()
    np.testing.assert_array_equal(session.add(Click(CENTRE)).logits, first.logits)


def test_a_negative_click_outside_the_crop_tracks_nothing(session: MultiViewSession) -> None:
    before = session.add(Click(CENTRE))
    outside = Click((0, SHAPE[1] - 1, 0), False)
    assert not session._history[-1].view.holds(outside)
    after = session.add(outside)
    assert session.clicks == (Click(CENTRE), outside)
    earlier, later = session._history
    assert later.view is earlier.view
    assert later.states == earlier.states
    # The volume network reads the click, so the mask may change a little.
    assert dice(after.mask, before.mask) > 0.9


@pytest.mark.slow
def test_a_positive_click_outside_the_crop_enlarges_it(session: MultiViewSession) -> None:
    session.add(Click(CENTRE))
    outside = Click((5, 60, 5))
    assert not session._history[-1].view.holds(outside)
    session.add(outside)
    assert session._history[-1].view.holds(outside)
    assert session._history[-1].view.holds(Click(CENTRE))


@pytest.mark.slow
def test_every_clicked_voxel_is_as_clicked_and_the_newer_click_wins(session: MultiViewSession) -> None:
    rng = np.random.default_rng(0)
    clicks = [Click(tuple(int(n) for n in rng.integers(0, SHAPE)), bool(rng.integers(2))) for _ in range(8)]
    clicks += [Click(clicks[0].zyx, not clicks[0].positive)]
    wanted: dict[tuple[int, int, int], bool] = {}
    for click in clicks:
        mask = session.add(click).mask
        wanted[click.zyx] = click.positive
        assert all(mask[place] == positive for place, positive in wanted.items())


class FakeView:
    """A view that answers by a rule instead of SAM 2; its state is the clicks that it holds."""

    sparse = False
    start: tuple[tuple[Click, ...], ...] = ((),)

    def __init__(self, rule: Callable[["FakeView", int], np.ndarray], crop: Crop, overview: bool) -> None:
        self.rule, self.crop, self.overview = rule, crop, overview

    def track(self, states, prompts):
        clicks = [click for prompt in prompts for click in prompt.clicks]
        held = [c for c in clicks if all(s.start <= i < s.stop for i, s in zip(c.zyx, self.crop, strict=True))]
        return ((*states[0], *held),)

    def logits(self, states):
        seen = self.rule(self, len(states[0]))[self.crop]
        logits = np.where(seen, 40.0, -40.0) if seen.dtype == bool else seen
        return torch.from_numpy(logits.astype(np.float32))[None]

    def drop_features(self):
        pass


def faked(shape, rule, refuse=lambda: None, network=None) -> MultiViewSession:
    """Return a session over fake views."""

    def open_view(crop, overview):
        refuse()
        return FakeView(rule, crop, overview)

    return MultiViewSession(open_view, shape, MM, Stopwatch(), zoom=True, network=network)  # type: ignore[arg-type,return-value]


def test_a_first_click_on_an_image_is_answered_on_the_crop_that_shows_it_best() -> None:
    """Small crops answer with the disc that was clicked, large ones with nothing at the click."""
    shape, cell = (1, 160, 160), (0, 40, 30)
    disc, elsewhere = ball_at(shape, cell, 9), ball_at(shape, (0, 120, 120), 20)
    opened = faked(shape, lambda seen, _: disc if seen.crop[1].stop - seen.crop[1].start < 100 else elsewhere)
    np.testing.assert_array_equal(opened.add(Click(cell)).mask, disc)


def test_a_first_click_on_an_image_prefers_the_largest_of_crops_that_agree() -> None:
    shape, centre = (1, 96, 96), (0, 40, 40)
    opened = faked(shape, lambda seen, _: ball_at(shape, centre, 9))
    opened.add(Click(centre))
    assert opened._history[0].crop == (slice(0, 1), slice(0, 96), slice(0, 96))


@pytest.mark.parametrize("told", ["click", "click and box"])
def test_half_sure_voxels_belong_to_the_mask_of_an_image_after_a_first_click_alone(told: str) -> None:
    shape, centre = (1, 96, 96), (0, 48, 48)
    core, whole = ball_at(shape, centre, 9), ball_at(shape, centre, 12)
    opened = faked(shape, lambda seen, _: np.where(core, 2.0, np.where(whole, -0.45, -7.0)))
    box = Box((0, 36, 36), (1, 61, 61)) if told == "click and box" else None
    answer = opened.prompt([Click(centre)], box=box)
    expected = core if box else whole
    np.testing.assert_array_equal(answer.mask, expected)
    assert answer.logits is not None
    np.testing.assert_array_equal(answer.logits > 0, expected)
    sure = faked(shape, lambda seen, _: np.where(core, 6.0, np.where(whole, -3.0, -7.0)))
    np.testing.assert_array_equal(sure.add(Click(centre)).mask, core)


def test_half_sure_voxels_do_not_belong_to_the_mask_of_a_volume() -> None:
    shape, centre = (32, 96, 96), (16, 48, 48)
    core, whole = ball_at(shape, centre, 9), ball_at(shape, centre, 15)
    opened = faked(shape, lambda seen, _: np.where(core, 2.0, np.where(whole, -0.45, -7.0)))
    np.testing.assert_array_equal(opened.add(Click(centre)).mask, core)


@pytest.fixture(scope="module")
def network() -> VolumeNetworkSegmenter:
    segmenter = make_segmenter("synthfm3d-unet", "cpu")
    assert isinstance(segmenter, VolumeNetworkSegmenter)
    return segmenter


VOLUME, MIDDLE = (40, 120, 120), (20, 60, 60)


def test_the_volume_network_chooses_the_first_crop_and_its_logits_are_added(network) -> None:
    inner = network.start(ball(VOLUME, MIDDLE, 9), MM)
    opened = faked(VOLUME, lambda seen, _: np.zeros(VOLUME, bool), network=inner)
    mask = opened.add(Click(MIDDLE)).mask
    # The views are certain of the outside everywhere: the network alone cannot outvote them.
    assert mask.sum() == 1
    first = opened._history[0]
    assert first.network is inner.answer
    assert all(side.stop - side.start < 40 for side in first.crop)
    assert all(side.start <= at < side.stop for side, at in zip(first.crop, MIDDLE, strict=True))
    # The network is certain of the inside there: a mean of the views' -40 and twice 8.
    assert float(first.logits.max()) == (-40 + 2 * 8) / 3


def test_undo_takes_back_both_models_answers(network) -> None:
    inner = network.start(ball(VOLUME, MIDDLE, 9), MM)
    opened = faked(VOLUME, lambda seen, _: ball_at(VOLUME, MIDDLE, 9), network=inner)
    first = opened.add(Click(MIDDLE))
    opened.add(Click((20, 80, 80), False))
    np.testing.assert_array_equal(opened.undo().logits, first.logits)
    assert inner.clicks == (Click(MIDDLE),)
    opened.undo()
    assert inner.answer is None


def test_a_box_is_answered_by_sam_2_alone(network) -> None:
    inner = network.start(ball(VOLUME, MIDDLE, 9), MM)
    opened = faked(VOLUME, lambda seen, _: ball_at(VOLUME, MIDDLE, 9), network=inner)
    opened.prompt(box=Box((12, 51, 51), (29, 70, 70)))
    assert inner.answer is None
    assert opened._history[0].network is None
    opened.add(Click(MIDDLE))
    opened.undo()
    assert opened._history[-1].network is None
    assert inner.answer is None


@pytest.mark.parametrize("positive", [True, False])
def test_after_a_box_the_network_starts_from_the_mask_of_sam_2(network, positive: bool) -> None:
    """Nothing in the image tells the ball of the box, which the network could not find from a click at its rim."""
    inner = network.start(np.full(VOLUME, 90, np.uint8), MM)
    boxed = ball_at(VOLUME, MIDDLE, 20)
    opened = faked(VOLUME, lambda seen, _: boxed, network=inner)
    opened.prompt(box=Box((0, 40, 40), (40, 80, 80)))
    opened.add(Click((20, 60, 78), positive))
    assert inner.clicks == opened.clicks
    assert all(side.start <= 45 and side.stop >= 75 for side in inner.answer.crop[1:])


def test_a_failure_on_a_proposed_crop_leaves_the_session_as_it_was(network) -> None:
    shape, centre = (40, 120, 120), (20, 60, 60)
    broken: list[Exception] = []

    def refuse() -> None:
        if broken:
            raise broken[0]

    inner = network.start(ball(shape, centre, 6), MM)
    opened = faked(shape, lambda seen, given: ball_at(shape, centre, 6 + 9 * (given > 1)), refuse, inner)
    first = opened.add(Click(centre))
    broken.append(MemoryError("injected"))
    with pytest.raises(MemoryError):
        opened.add(Click((20, 70, 60)))
    assert opened.clicks == inner.clicks == (Click(centre),)
    broken.clear()
    second = opened.add(Click((20, 70, 60)))
    np.testing.assert_array_equal(opened.undo().logits, first.logits)
    np.testing.assert_array_equal(opened.add(Click((20, 70, 60))).logits, second.logits)


def test_without_the_ensemble_the_views_alone_answer() -> None:
    image = ball(SHAPE, CENTRE, 6)
    alone = make_segmenter("synthfm3d-nano", "cpu", options={"ensemble": False}).start(image, MM)
    assert isinstance(alone, MultiViewSession)
    alone.add(Click(CENTRE))
    answered = alone._history[0]
    assert torch.equal(answered.logits, answered.view.logits(answered.states).mean(0))
    assert answered.network is None


def test_the_fast_preset_tracks_one_stack(plain: SAM2Segmenter) -> None:
    assert isinstance(plain.start(ball(SHAPE, CENTRE, 6), MM), StackSession)
