"""Tests that ``check_segmenter`` reports each broken rule and accepts correct segmenters."""

import random

import numpy as np
import pytest

from synthfm_env.errors import InputError
from synthfm_env.prompts import Click
from synthfm_env.segmenters import Capabilities, Prediction, Seconds, Segmenter, Session, make_segmenter
from synthfm_env.segmenters.image_input import prepare_image
from synthfm_env.testing import check_segmenter


class ThresholdSession(Session):
    """Voxels as bright as the newest positive click; a negative click is excluded by itself."""

    def __init__(self, owner: "Threshold", image: np.ndarray) -> None:
        self.owner, self.image, self.open = owner, image if image.ndim == 3 else image[..., 0], True
        self.placed: list[Click] = []

    @property
    def clicks(self):
        return tuple(self.placed)

    def add(self, click):
        self.check()
        click.check_inside(self.image.shape)
        if not click.positive and not self.owner.capabilities.negative_clicks:
            raise InputError("this segmenter takes positive clicks alone")
        self.placed.append(click)
        return self.answer()

    def undo(self):
        self.check()
        if not self.placed:
            raise InputError("there is no click to undo")
        self.placed.pop()
        return self.answer()

    def reset(self):
        self.check()
        self.placed.clear()

    def close(self):
        self.open = False

    def check(self):
        if not self.open:
            raise InputError("this session is closed")

    def answer(self):
        mask = np.zeros(self.image.shape, dtype=bool)
        for click in self.placed:
            near = np.abs(self.image.astype(int) - int(self.image[click.zyx])) < 20
            mask = mask | near if click.positive else mask & ~near
        return Prediction(mask, None, Seconds(0.0, 0.0))


class Threshold(Segmenter):
    name = "threshold"
    capabilities = Capabilities()
    session = ThresholdSession

    def start(self, image, spacing):
        prepared = prepare_image(image, spacing)
        if prepared.shape[0] == 1 and not self.capabilities.images:
            raise InputError("no images")
        return self.session(self, prepared)


def problems(segmenter) -> str:
    with pytest.raises(InputError) as error:
        check_segmenter(segmenter)
    return str(error.value)


def broken(**verbs):
    """Return a segmenter whose session has other verbs."""
    return type("Broken", (Threshold,), {"session": type("BrokenSession", (ThresholdSession,), verbs)})()


@pytest.mark.parametrize("segmenter", [Threshold(), make_segmenter("geodesic")], ids=["threshold", "geodesic"])
def test_what_keeps_the_contract_passes(segmenter):
    check_segmenter(segmenter)


@pytest.mark.slow
def test_the_packaged_model_keeps_the_contract():
    check_segmenter(make_segmenter("synthfm3d-nano"))


@pytest.mark.parametrize(
    "capabilities", [Capabilities(negative_clicks=False), Capabilities(images=False)], ids=["positive", "volumes"]
)
def test_fewer_capabilities_pass_where_they_are_kept(capabilities):
    check_segmenter(type("Fewer", (Threshold,), {"capabilities": capabilities})())


def test_capabilities_that_are_not_kept_are_told():
    class Session(ThresholdSession):
        def add(self, click):
            self.check()
            click.check_inside(self.image.shape)
            self.placed.append(click)
            return self.answer()

    fields = {"capabilities": Capabilities(volumes=False, negative_clicks=False), "session": Session}
    text = problems(type("Broken", (Threshold,), fields)())
    assert "its capabilities exclude a volume, but start raised nothing" in text
    assert "its capabilities exclude negative clicks, but add raised nothing" in text


def changed_mask(change):
    def answer(self):
        good = ThresholdSession.answer(self)
        return change(good)

    return {"answer": answer}


def uint8(good):
    return Prediction(good.mask.astype(np.uint8), None, good.seconds)


def half(good):
    return Prediction(good.mask[:, ::2], None, good.seconds)


def wide_logits(good):
    return Prediction(good.mask, good.mask.astype(np.float64), good.seconds)


def late(good):
    return Prediction(good.mask, None, Seconds(-1.0, 0.0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (uint8, "the mask is uint8 (6, 18, 20): expected bool (6, 18, 20)"),
        (half, "the mask is bool (6, 9, 20): expected bool (6, 18, 20)"),
        (wide_logits, "the logits are float64 (6, 18, 20): expected None, or float32 (6, h, w)"),
        (late, "the seconds are Seconds(encode=-1.0, predict=0.0)"),
        (lambda good: good.mask, "a method returned ndarray: expected a synthfm_env.Prediction"),
    ],
)
def test_an_answer_of_another_form_is_told(change, message):
    assert message in problems(broken(**changed_mask(change)))


def same_array(self):
    answer = ThresholdSession.answer(self)
    shared = self.__dict__.setdefault("shared", answer.mask)
    shared[:] = answer.mask
    return Prediction(shared, None, Seconds(0, 0))


def with_memory(self):
    answer = ThresholdSession.answer(self)
    self.seen = getattr(self, "seen", np.zeros_like(answer.mask)) | answer.mask
    return Prediction(self.seen.copy(), None, Seconds(0, 0))


def by_owner(self):
    answer = ThresholdSession.answer(self)
    last, self.owner.last = getattr(self.owner, "last", answer.mask), answer.mask
    mask = answer.mask ^ last if last.shape == answer.mask.shape and self.owner.last is not last else answer.mask
    return Prediction(mask, None, Seconds(0, 0))


def by_chance(self):
    answer = ThresholdSession.answer(self)
    answer.mask[0, 0, 0] = random.random() < 0.5
    return answer


def close_once(self):
    self.check()
    self.open = False


def crash(self, click):
    raise KeyError("no such voxel")


def never_refuse(self, click):
    self.placed.append(click)
    return Prediction(np.zeros(self.image.shape, dtype=bool), None, Seconds(0, 0))


@pytest.mark.parametrize(
    ("verbs", "message"),
    [
        ({"answer": same_array}, "a later click changed a mask that was returned"),
        ({"answer": with_memory}, "undo did not restore the earlier mask"),
        ({"answer": by_owner}, "a second session changed the masks of the first"),
        ({"answer": by_chance}, "it draws from a global random state"),
        ({"reset": lambda self: None}, "reset left clicks in session.clicks"),
        ({"close": close_once}, "on a grid of (6, 18, 20): InputError: this session is closed"),
        ({"add": crash}, "on a grid of (6, 18, 20): KeyError: 'no such voxel'"),
        ({"add": never_refuse}, "outside the image, raised nothing: expected an InputError"),
        ({"check": lambda self: None}, "add on a closed session raised nothing"),
        ({"clicks": property(lambda self: list(self.placed))}, "a new session has the clicks []"),
    ],
)
def test_a_session_that_breaks_the_contract_is_told(verbs, message):
    assert message in problems(broken(**verbs))


def test_a_batch_that_answers_otherwise_is_told():
    class Broken(Threshold):
        def add_many(self, sessions, clicks):
            return super().add_many(sessions, clicks)[::-1]

    assert "add_many gave other masks than add" in problems(Broken())


def test_an_image_that_is_changed_or_not_checked_is_told():
    class Changes(Threshold):
        def start(self, image, spacing):
            if image.flags.writeable and image.dtype == np.uint8:
                image.flat[0] = 7
            return super().start(image, spacing)

    class Trusts(Threshold):
        def start(self, image, spacing):
            return ThresholdSession(self, np.nan_to_num(image).astype(np.uint8))

    assert "it changed the image in place" in problems(Changes())
    text = problems(Trusts())
    assert "start on an image with two axes raised nothing" in text
    assert "start on an image with NaN raised nothing" in text


@pytest.mark.parametrize(
    ("fields", "message"), [({"name": ""}, "name is ''"), ({"capabilities": None}, "capabilities is None")]
)
def test_a_class_without_its_names_is_told(fields, message):
    assert message in problems(type("Broken", (Threshold,), fields)())


def test_what_is_no_segmenter_is_told():
    assert "expected an instance of a subclass of synthfm_env.Segmenter, got <class" in problems(Threshold)
