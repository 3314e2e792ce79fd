"""Three planes and zoom: views of one structure that must agree with SAM 2's own, and with each other."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch

from synthfm_env.errors import InputError
from synthfm_env.prompts import Click
from synthfm_env.segmenters import make_segmenter
from synthfm_env.segmenters.sam2 import SAM2Segmenter
from synthfm_env.segmenters.sam2.multiview.orientation import ALL_TURNS, Turn
from synthfm_env.segmenters.sam2.multiview.session import ZoomSession
from synthfm_env.segmenters.sam2.multiview.view import Box, Planes
from synthfm_env.segmenters.sam2.tracking.stack_session import SAM2Session

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
    segmenter = make_segmenter("synthfm3d-nano", device="cpu", mode="fast")
    assert isinstance(segmenter, SAM2Segmenter)
    return segmenter


@pytest.fixture(scope="module")
def closely() -> SAM2Segmenter:
    """The default without its refiner: what is tested here is where it looks."""
    segmenter = make_segmenter("synthfm3d-nano", device="cpu", refine=False)
    assert isinstance(segmenter, SAM2Segmenter)
    return segmenter


@pytest.fixture
def session(closely: SAM2Segmenter) -> ZoomSession:
    opened = closely.start(ball(SHAPE, CENTRE, 6), MM)
    assert isinstance(opened, ZoomSession)
    return opened


def view(plain: SAM2Segmenter, image: np.ndarray, box: Box, planes: int) -> Planes:
    def slices(stack: np.ndarray) -> SAM2Session:
        opened = plain.start(stack, MM)
        assert isinstance(opened, SAM2Session)
        return opened

    return Planes(slices, image, box, planes=planes, side=48)


def whole(shape: tuple[int, int, int]) -> Box:
    return slice(0, shape[0]), slice(0, shape[1]), slice(0, shape[2])


def test_one_plane_of_the_whole_image_says_what_the_slices_say(plain: SAM2Segmenter) -> None:
    image = ball((9, 48, 48), (4, 24, 20), 9)
    clicks = [Click((4, 24, 20)), Click((7, 40, 40), False)]
    seen = view(plain, image, whole((9, 48, 48)), planes=1)
    session = plain.start(image, MM)
    for click in clicks:
        expected = session.add(click).logits
        assert expected is not None
        np.testing.assert_array_equal(seen.add([click])[0].numpy(), expected.clip(-8, 8))


def test_turning_the_image_turns_the_answer(plain: SAM2Segmenter) -> None:
    """Three planes prefer no axis."""
    image = ball((40, 40, 40), (14, 20, 25), 8)
    at = (14, 20, 25)
    straight = view(plain, image, whole((40, 40, 40)), planes=3).add([Click(at)]).mean(0)
    turned = view(plain, np.ascontiguousarray(image.transpose(1, 0, 2)), whole((40, 40, 40)), planes=3)
    # The third plane comes mirrored, and a network is no mirror: most of the two answers is the same all the same.
    answer = turned.add([Click((at[1], at[0], at[2]))]).mean(0).permute(1, 0, 2)
    assert float(((answer > 0) == (straight > 0)).float().mean()) > 0.98


@pytest.mark.parametrize("turn", ALL_TURNS)
def test_however_an_image_is_laid_the_answer_is_the_same(plain: SAM2Segmenter, turn: Turn) -> None:
    """An image is seen in all turns, so none of them is another question."""
    image, at = ball((1, 40, 56), (0, 14, 25), 8), (14, 25)
    box = whole((1, 40, 56))
    straight = view(plain, image, box, planes=3).add([Click((0, *at))]).mean(0)
    laid = turn.lay(image)
    click = Click((0, *turn.place(*at, (40, 56))))
    turned = view(plain, laid, whole((1, laid.shape[1], laid.shape[2])), planes=3).add([click]).mean(0)
    assert bool((straight > 0).any())
    np.testing.assert_allclose(turn.back(turned).numpy(), straight.numpy(), atol=2e-2)


def test_a_long_axis_is_seen_on_as_many_slices_as_a_mask_has_pixels(plain: SAM2Segmenter) -> None:
    image = ball((100, 20, 20), (70, 10, 10), 6)
    seen = view(plain, image, whole((100, 20, 20)), planes=1)
    logits = seen.add([Click((70, 10, 10))])[0]
    assert logits.shape == (96, 20, 20)
    on = torch.nonzero((logits > 0).any(-1).any(-1))
    assert int(on.min()) <= 70 * 0.96 <= int(on.max()) + 1


def test_a_small_object_is_looked_at_close_up(session: ZoomSession) -> None:
    mask = session.add(Click(CENTRE)).mask
    truth = ball(SHAPE, CENTRE, 6) > 120
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.7
    z, y, x = session._history[-1].planes.box
    assert all(side.start <= c < side.stop for side, c in zip((z, y, x), CENTRE, strict=True))
    assert (y.stop - y.start) * (x.stop - x.start) < 0.5 * SHAPE[1] * SHAPE[2]


def test_undo_returns_through_every_box_bit_for_bit(session: ZoomSession) -> None:
    clicks = [Click(CENTRE), Click((8, 50, 10)), Click((8, 50, 12), False), Click((5, 24, 50)), Click((0, 2, 2), False)]
    answers = [session.add(click) for click in clicks]
    boxes = {str(moment.planes.box) for moment in session._history}
    assert len(boxes) > 1, "the clicks were chosen so that the box is drawn again"
    for answer in answers[-2::-1]:
        back = session.undo()
        np.testing.assert_array_equal(back.mask, answer.mask)
        np.testing.assert_array_equal(back.logits, answer.logits)
    assert not session.undo().mask.any()
    # And forward again, over the views that undo left behind.
    for click, answer in zip(clicks, answers, strict=True):
        np.testing.assert_array_equal(session.add(click).mask, answer.mask)


def test_reset_forgets_all(session: ZoomSession) -> None:
    first = session.add(Click(CENTRE))
    session.add(Click((8, 50, 10)))
    session.reset()
    assert session.clicks == ()
    np.testing.assert_array_equal(session.add(Click(CENTRE)).logits, first.logits)


def test_a_piece_of_a_2d_object_is_not_taken_for_the_whole(
    closely: SAM2Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = closely.start(ball((1, 96, 96), (0, 40, 40), 9), MM)
    assert isinstance(opened, ZoomSession)
    first = opened.add(Click((0, 40, 40)))
    opened.reset()
    add = Planes.add

    def a_piece(planes: Planes, clicks: list[Click]) -> torch.Tensor:
        logits = add(planes, clicks)
        if planes is opened._whole:
            return logits
        logits[:] = -1.0
        logits[:, 0, :2, :2] = 1.0
        return logits

    monkeypatch.setattr(Planes, "add", a_piece)
    seen = opened.add(Click((0, 40, 40)))
    assert seen.mask[0, 40, 40]
    assert seen.mask.sum() > 0.3 * first.mask.sum()


def test_a_cell_seen_as_its_cluster_is_seen_alone_where_distances_say_so(
    closely: SAM2Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From afar the model answers with both discs; close up with the one that was clicked."""
    shape, cell, other = (1, 160, 160), (0, 40, 30), (0, 40, 60)
    image = np.maximum(ball(shape, cell, 9), ball(shape, other, 9))
    opened = closely.start(image, MM)
    assert isinstance(opened, ZoomSession)
    rows, columns = np.indices(shape[1:])
    alone = (rows - 40) ** 2 + (columns - 30) ** 2 < 81
    both = alone | ((rows - 40) ** 2 + (columns - 60) ** 2 < 400)

    add = Planes.add

    def answer(planes: Planes, clicks: list[Click]) -> torch.Tensor:
        add(planes, clicks)
        seen = both if planes is opened._whole else alone[planes.box[1:]]
        return torch.from_numpy(np.where(seen, 8.0, -8.0).astype(np.float32))[None, None]

    monkeypatch.setattr(Planes, "add", answer)
    mask = opened.add(Click(cell)).mask
    assert mask[cell]
    assert not mask[0, 30:50, 55:].any()


def a_disc_from_afar_alone(depth: int, radius: int) -> Callable[[Planes, list[Click]], torch.Tensor]:
    """Return a ``Planes.add`` for slices of 160 x 160: a disc on the whole under three clicks, else a speck."""
    rows, columns = np.indices((160, 160))
    away = (rows - 80) ** 2 + (columns - 80) ** 2
    add = Planes.add

    given: Counter[Planes] = Counter()

    def answer(planes: Planes, clicks: list[Click]) -> torch.Tensor:
        add(planes, clicks)
        width = planes.box[2].stop - planes.box[2].start
        given[planes] += len(clicks)
        seen = away < (radius**2 if width == 160 and given[planes] > 2 else 4**2)
        logits = np.where(seen[planes.box[1:]], 40.0, -40.0).astype(np.float32)
        return torch.from_numpy(logits).repeat(1, depth, 1, 1)

    return answer


def test_an_object_lost_close_up_is_looked_for_from_afar_when_clicks_insist(
    closely: SAM2Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Close up the model answers with a speck, from afar with the disc, once two clicks said that it is more."""
    opened = closely.start(ball((1, 160, 160), (0, 80, 80), 40), MM)
    assert isinstance(opened, ZoomSession)
    monkeypatch.setattr(Planes, "add", a_disc_from_afar_alone(1, 40))
    sums = [int(opened.add(Click((0, 80, x))).mask.sum()) for x in (80, 82, 84)]
    assert sums[1] < 1000
    assert sums[2] > 4000
    speck = opened.undo().mask
    assert int(speck.sum()) == sums[1]
    # A negative click in between: then the speck may be meant.
    opened.add(Click((0, 20, 20), False))
    assert int(opened.add(Click((0, 80, 84))).mask.sum()) < 1000


@pytest.mark.parametrize("depth", [1, 3])
def test_what_insisting_clicks_found_is_not_lost_close_up_again(
    closely: SAM2Segmenter, monkeypatch: pytest.MonkeyPatch, depth: int
) -> None:
    """The disc is small enough for a box of its own, in which the model answers with a speck each time."""
    middle = depth // 2
    opened = closely.start(ball((depth, 160, 160), (middle, 80, 80), 20), MM)
    assert isinstance(opened, ZoomSession)
    monkeypatch.setattr(Planes, "add", a_disc_from_afar_alone(depth, 20))
    sums = [int(opened.add(Click((middle, 80, x))).mask.sum()) for x in (80, 82, 84)]
    assert sums[1] < 300 * depth
    assert sums[2] > 1000 * depth
    assert int(opened.add(Click((middle, 20, 20), False)).mask.sum()) > 1000 * depth


@pytest.mark.parametrize("close_up", ["found", "lost"])
def test_a_volume_is_seen_closer_when_negative_clicks_insist(
    closely: SAM2Segmenter, monkeypatch: pytest.MonkeyPatch, close_up: str
) -> None:
    """From afar the model answers with a large ball whatever is clicked, close up with the small one, or beside it."""
    shape, centre = (40, 120, 120), (20, 60, 60)
    opened = closely.start(ball(shape, centre, 6), MM)
    assert isinstance(opened, ZoomSession)
    where = np.indices(shape)
    large, small = (
        sum((i - c) ** 2 for i, c in zip(where, middle, strict=True)) < radius**2
        for middle, radius in ((centre, 18), (centre if close_up == "found" else (20, 60, 44), 6))
    )
    add = Planes.add

    def answer(planes: Planes, clicks: list[Click]) -> torch.Tensor:
        add(planes, clicks)
        width = planes.box[2].stop - planes.box[2].start
        seen = (large if width > 50 else small)[planes.box]
        return torch.from_numpy(np.where(seen, 40.0, -40.0).astype(np.float32))[None]

    monkeypatch.setattr(Planes, "add", answer)
    clicks = [Click(centre), Click((20, 60, 74), False), Click((20, 46, 60), False)]
    masks = [opened.add(click).mask for click in clicks]
    assert int(masks[1].sum()) > 10_000
    if close_up == "lost":
        assert int(masks[2].sum()) > 10_000
        return
    assert int(masks[2].sum()) < 1000
    assert opened._history[-1].planes.holds(clicks[0])
    np.testing.assert_array_equal(opened.undo().mask, masks[1])
    # A positive click in between: then the large one may be meant.
    opened.add(Click((20, 60, 50)))
    assert int(opened.add(clicks[2]).mask.sum()) > 10_000


def test_a_negative_click_outside_the_box_changes_nothing_that_is_seen(session: ZoomSession) -> None:
    before = session.add(Click(CENTRE))
    seen = session._history[-1].planes.views()
    outside = Click((0, SHAPE[1] - 1, 0), False)
    assert not session._history[-1].planes.holds(outside)
    after = session.add(outside)
    assert session.clicks == (Click(CENTRE), outside)
    assert session._history[-1].planes is session._history[0].planes
    assert torch.equal(session._history[-1].planes.views(), seen)
    assert not (after.mask & ~before.mask).any()


def test_a_positive_click_outside_the_box_enlarges_it(session: ZoomSession) -> None:
    session.add(Click(CENTRE))
    outside = Click((5, 60, 5))
    assert not session._history[-1].planes.holds(outside)
    session.add(outside)
    assert session._history[-1].planes.holds(outside)
    assert session._history[-1].planes.holds(Click(CENTRE))


def test_a_failure_while_looking_closer_leaves_the_session_as_it_was(
    session: ZoomSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = session.add(Click(CENTRE))
    fails: Callable[..., None] = lambda moment: (_ for _ in ()).throw(MemoryError("injected"))  # noqa: E731
    with monkeypatch.context() as patch:
        patch.setattr(session, "_look_closer", fails)
        with pytest.raises(MemoryError):
            session.add(Click((5, 24, 50)))
    assert session.clicks == (Click(CENTRE),)
    second = session.add(Click((5, 24, 50)))
    np.testing.assert_array_equal(session.undo().logits, first.logits)
    np.testing.assert_array_equal(session.add(Click((5, 24, 50))).logits, second.logits)


def test_every_click_is_heeded_and_the_newer_one_wins(session: ZoomSession) -> None:
    rng = np.random.default_rng(0)
    clicks = [Click(tuple(int(n) for n in rng.integers(0, SHAPE)), bool(rng.integers(2))) for _ in range(8)]
    clicks += [Click(clicks[0].zyx, not clicks[0].positive)]
    wanted: dict[tuple[int, int, int], bool] = {}
    for click in clicks:
        mask = session.add(click).mask
        wanted[click.zyx] = click.positive
        assert all(mask[place] == positive for place, positive in wanted.items())


def test_without_distances_the_view_alone_answers() -> None:
    alone = make_segmenter("synthfm3d-nano", device="cpu", distances=False).start(ball(SHAPE, CENTRE, 6), MM)
    assert isinstance(alone, ZoomSession)
    alone.add(Click(CENTRE))
    assert torch.equal(alone._history[0].logits, alone._history[0].planes.views().mean(0))
    assert alone._distances is None


def test_explicit_modes_see_slices_alone_and_options_are_checked(plain: SAM2Segmenter) -> None:
    assert isinstance(plain.start(ball(SHAPE, CENTRE, 6), MM), SAM2Session)
    with pytest.raises(InputError, match="planes=2"):
        make_segmenter("synthfm3d-nano", planes=2)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="mode='best'"):
        make_segmenter("synthfm3d-nano", mode="best")  # type: ignore[arg-type]
