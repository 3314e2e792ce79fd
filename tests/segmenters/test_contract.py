"""Tests the contract of every segmenter."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from synthfm_env.errors import InputError
from synthfm_env.prompts import Box, Click
from synthfm_env.segmenters import make_segmenter
from synthfm_env.segmenters.base import Segmenter, Session
from synthfm_env.segmenters.geodesic import Geodesic


def nano(preset: str) -> Callable[[], Segmenter]:
    return lambda: make_segmenter("synthfm3d-nano", device="cpu", preset=preset)


FACTORIES: dict[str, Callable[[], Segmenter]] = {
    "geodesic": Geodesic,
    "nano-exact": nano("exact"),
    "nano-fast": nano("fast"),
    "nano-closely": nano("auto"),
}
SHAPE = (6, 24, 32)
MM = (2.0, 1.0, 1.0)
CLICKS = [Click((3, 12, 16)), Click((3, 2, 2), False), Click((1, 12, 18)), Click((5, 20, 30), False)]


def scene(shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """Return a bright, noisy ellipsoid, uint8."""
    away = [(i - (n - 1) / 2) / (0.3 * n) for i, n in zip(np.indices(shape), shape, strict=True)]
    image = np.where(sum(a**2 for a in away) < 1, 170.0, 70.0)
    return np.clip(image + np.random.default_rng(0).normal(0, 6, shape), 0, 255).astype(np.uint8)


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.slow) if name == "nano-closely" else name for name in FACTORIES],
)
def segmenter(request: pytest.FixtureRequest) -> Segmenter:
    return FACTORIES[request.param]()


@pytest.fixture
def session(segmenter: Segmenter) -> Iterator[Session]:
    with segmenter.start(scene(), MM) as opened:
        yield opened


def test_a_mask_lies_on_the_images_own_grid(session: Session) -> None:
    for click in CLICKS:
        prediction = session.add(click)
        assert prediction.mask.shape == SHAPE
        assert prediction.mask.dtype == bool
        assert min(prediction.seconds) >= 0
        if prediction.logits is not None:
            assert prediction.logits.dtype == np.float32
            assert prediction.logits.shape[0] == SHAPE[0]
            assert np.isfinite(prediction.logits).all()
    assert session.clicks == tuple(CLICKS)


def test_undo_brings_each_earlier_mask_back_bit_for_bit(session: Session) -> None:
    masks = [np.zeros(SHAPE, bool)] + [session.add(click).mask.copy() for click in CLICKS]
    for count in range(len(CLICKS) - 1, -1, -1):
        assert np.array_equal(session.undo().mask, masks[count])
        assert session.clicks == tuple(CLICKS[:count])
    with pytest.raises(InputError, match="no click"):
        session.undo()


def test_after_undo_the_same_click_gives_the_same_mask(session: Session) -> None:
    first = session.add(CLICKS[0]).mask.copy()
    second = session.add(CLICKS[1]).mask.copy()
    session.undo()
    session.add(CLICKS[2])
    session.undo()
    assert np.array_equal(session.add(CLICKS[1]).mask, second)
    session.reset()
    assert session.clicks == ()
    assert np.array_equal(session.add(CLICKS[0]).mask, first)


def test_sessions_do_not_disturb_each_other(segmenter: Segmenter, session: Session) -> None:
    alone = [session.add(click).mask.copy() for click in CLICKS[:2]]
    with segmenter.start(scene(), MM) as one, segmenter.start(scene()[:, ::-1], MM) as other:
        first = one.add(CLICKS[0]).mask
        other.add(CLICKS[2])
        assert np.array_equal(first, alone[0])
        assert np.array_equal(one.add(CLICKS[1]).mask, alone[1])


def test_a_click_outside_leaves_the_session_as_it_was(session: Session) -> None:
    session.add(CLICKS[0])
    for zyx in ((6, 0, 0), (0, -1, 0), (0, 0, 32)):
        with pytest.raises(InputError, match="outside"):
            session.add(Click(zyx))
    assert session.clicks == (CLICKS[0],)
    after = session.add(CLICKS[1]).mask.copy()
    session.reset()
    session.add(CLICKS[0])
    assert np.array_equal(session.add(CLICKS[1]).mask, after)


def test_a_closed_session_says_so(segmenter: Segmenter) -> None:
    session = segmenter.start(scene(), MM)
    session.add(CLICKS[0])
    session.close()
    session.close()
    for verb in (lambda: session.add(CLICKS[1]), session.undo, session.reset):
        with pytest.raises(InputError, match="closed"):
            verb()


def test_leaving_the_block_closes(segmenter: Segmenter) -> None:
    with segmenter.start(scene(), MM) as session:
        session.add(CLICKS[0])
    with pytest.raises(InputError, match="closed"):
        session.add(CLICKS[1])


def test_the_image_is_left_alone(segmenter: Segmenter) -> None:
    image = scene()
    image.flags.writeable = False
    before = image.copy()
    with segmenter.start(image, MM) as session:
        session.add(CLICKS[0])
    assert np.array_equal(image, before)


def test_a_returned_mask_is_the_callers_own(session: Session) -> None:
    session.add(CLICKS[0]).mask[:] = True
    second = session.add(CLICKS[1]).mask.copy()
    session.reset()
    session.add(CLICKS[0])
    assert np.array_equal(session.add(CLICKS[1]).mask, second)


@pytest.mark.parametrize("shape", [(1, 24, 32), (2, 17, 9), (5, 40, 12)])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (7.5, 0.7, 0.9), (0.5, 3.0, 3.0)])
def test_any_grid_and_spacing(
    segmenter: Segmenter, shape: tuple[int, int, int], spacing: tuple[float, float, float]
) -> None:
    with segmenter.start(scene(shape), spacing) as session:
        centre = tuple(n // 2 for n in shape)
        mask = session.add(Click(centre)).mask  # type: ignore[arg-type]
        assert mask.shape == shape
        assert session.add(Click((0, 0, 0), False)).mask.shape == shape


def test_float_and_rgb_images(segmenter: Segmenter) -> None:
    grey = scene()
    for image in (grey.astype(np.float64) * 3 - 400, np.repeat(grey[..., np.newaxis], 3, axis=-1)):
        with segmenter.start(image, MM) as session:
            assert session.add(CLICKS[0]).mask.shape == SHAPE


@pytest.mark.parametrize(
    ("image", "spacing"),
    [
        (np.zeros((0, 8, 8), np.uint8), MM),
        (np.zeros((8, 8), np.uint8), MM),
        (np.full((2, 8, 8), np.nan), MM),
        (np.zeros((2, 8, 8), np.uint8), (1.0, -1.0, 1.0)),
    ],
)
def test_an_unusable_image_is_refused(
    segmenter: Segmenter, image: np.ndarray, spacing: tuple[float, float, float]
) -> None:
    with pytest.raises(InputError):
        segmenter.start(image, spacing)


def test_add_many_answers_as_single_adds_do(segmenter: Segmenter) -> None:
    images = [scene(), scene()[:, ::-1], scene()[::-1]]
    rounds = [CLICKS[:3], [CLICKS[1], Click((1, 10, 16)), CLICKS[3]]]
    sessions = [segmenter.start(image, MM) for image in images]
    batched = [segmenter.add_many(sessions, clicks) for clicks in rounds]
    assert [session.clicks for session in sessions] == list(zip(*rounds, strict=True))
    undone = [session.undo().mask for session in sessions]
    for i, image in enumerate(images):
        with segmenter.start(image, MM) as session:
            for answers, clicks in zip(batched, rounds, strict=True):
                assert np.mean(answers[i].mask != session.add(clicks[i]).mask) < 0.001
        assert np.array_equal(undone[i], batched[0][i].mask)


def test_add_many_of_a_bad_click_leaves_every_session_as_it_was(segmenter: Segmenter, session: Session) -> None:
    with segmenter.start(scene(), MM) as other:
        other.add(CLICKS[0])
        for clicks in ([CLICKS[1], Click((0, 99, 0))], [Click((0, 99, 0)), CLICKS[1]]):
            with pytest.raises(InputError, match="outside"):
                segmenter.add_many([other, session], clicks)
        with pytest.raises(InputError, match="twice"):
            segmenter.add_many([other, other], CLICKS[:2])
        with pytest.raises(InputError, match="2 sessions and 1 clicks"):
            segmenter.add_many([other, session], CLICKS[:1])
        assert (other.clicks, session.clicks) == ((CLICKS[0],), ())
        other.close()
        with pytest.raises(InputError, match="closed"):
            segmenter.add_many([session, other], CLICKS[:2])
        assert session.clicks == ()


def test_add_many_of_another_segmenters_session_is_refused(segmenter: Segmenter, session: Session) -> None:
    other = "random-walker" if segmenter.name == "geodesic" else "geodesic"
    with make_segmenter(other).start(scene(), MM) as foreign:
        with pytest.raises(InputError, match="of another segmenter"):
            segmenter.add_many([session, foreign], CLICKS[:2])
        assert (session.clicks, foreign.clicks) == ((), ())


@pytest.mark.parametrize("sessions", [None, 3, iter([]), [3]])
def test_add_many_of_what_is_no_list_of_sessions_is_refused(segmenter: Segmenter, sessions) -> None:
    with pytest.raises(InputError, match="add_many: "):
        segmenter.add_many(sessions, CLICKS[:1])


def test_add_many_of_none_is_none(segmenter: Segmenter) -> None:
    assert segmenter.add_many([], []) == []


def test_several_clicks_are_one_prompt_and_one_undo(session: Session) -> None:
    first = session.add(CLICKS[0]).mask.copy()
    prediction = session.prompt(CLICKS[1:3])
    assert session.clicks == tuple(CLICKS[:3])
    assert prediction.mask.shape == SHAPE
    session.add(CLICKS[3])
    assert np.array_equal(session.undo().mask, prediction.mask)
    assert np.array_equal(session.undo().mask, first)
    assert session.clicks == (CLICKS[0],)


def test_a_prompt_of_one_click_is_add(segmenter: Segmenter, session: Session) -> None:
    with segmenter.start(scene(), MM) as other:
        for click in CLICKS:
            assert np.array_equal(session.prompt([click]).mask, other.add(click).mask)


def test_after_reset_single_clicks_are_undone_singly(session: Session) -> None:
    session.prompt(CLICKS[:3])
    session.reset()
    masks = [session.add(click).mask.copy() for click in CLICKS[:3]]
    assert np.array_equal(session.undo().mask, masks[1])
    assert session.clicks == tuple(CLICKS[:2])


def box_and_mask() -> tuple[Box, np.ndarray]:
    mask = np.zeros(SHAPE, bool)
    mask[2:5, 8:16, 10:22] = True
    return Box.around(mask), mask


def test_boxes_and_masks_are_taken_as_promised(segmenter: Segmenter, session: Session) -> None:
    box, mask = box_and_mask()
    flat = Box((3, *box.start[1:]), (4, *box.stop[1:]))
    kinds = [(segmenter.capabilities.boxes, {"box": box}), (segmenter.capabilities.boxes, {"box": flat})]
    kinds += [(segmenter.capabilities.initial_mask, {"mask": mask})]
    for promised, given in kinds:
        session.reset()
        if not promised:
            with pytest.raises(InputError, match="capabilities"):
                session.prompt(**given)
            assert session.clicks == ()
            continue
        answer = session.prompt(**given).mask.copy()
        assert answer.shape == SHAPE
        corrected = session.prompt(CLICKS[1:3], **given).mask.copy()
        assert session.clicks == tuple(CLICKS[1:3])
        assert np.array_equal(session.undo().mask, answer)
        assert np.array_equal(session.prompt(CLICKS[1:3], **given).mask, corrected)
        session.undo()
        assert not session.undo().mask.any()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "empty prompt"),
        ({"box": Box((0, 0, 0), (1, 25, 3))}, "outside the image"),
        ({"mask": np.ones((6, 24, 31), bool)}, r"expected bool \(6, 24, 32\)"),
        ({"mask": np.ones(SHAPE, np.uint8)}, "uint8"),
        ({"mask": np.zeros(SHAPE, bool)}, "empty mask"),
        ({"clicks": [CLICKS[0], Click((6, 0, 0))]}, "outside"),
    ],
)
def test_a_prompt_that_does_not_fit_leaves_the_session_as_it_was(
    segmenter: Segmenter, session: Session, given: dict, message: str
) -> None:
    session.add(CLICKS[0])
    with pytest.raises(InputError, match=message if segmenter.capabilities.boxes else "."):
        session.prompt(**given)
    assert session.clicks == (CLICKS[0],)
    with segmenter.start(scene(), MM) as other:
        other.add(CLICKS[0])
        assert np.array_equal(session.add(CLICKS[1]).mask, other.add(CLICKS[1]).mask)


def test_a_box_without_voxels_is_refused() -> None:
    with pytest.raises(InputError, match="holds no voxel"):
        Box((2, 3, 4), (3, 3, 9))
    box, mask = box_and_mask()
    assert (box.start, box.stop, box.thickness) == ((2, 8, 10), (5, 16, 22), 3)
    assert mask[box.slices].all()
    assert mask[box.slices].sum() == mask.sum()
    with pytest.raises(InputError, match="empty mask"):
        Box.around(np.zeros(SHAPE, bool))
