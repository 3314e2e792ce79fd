"""Checks that a segmenter keeps the contract of ``Segmenter`` and ``Session``."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthfm_env.errors import InputError
from synthfm_env.prompts import Box, Click
from synthfm_env.segmenters.base import Capabilities, Prediction, Segmenter, Session
from synthfm_env.testing.harness import global_random_state

VOLUME, IMAGE = (6, 18, 20), (1, 24, 16)  # a volume whose axes differ, and a single slice
SPACING = (2.5, 0.8, 0.7)
SEED = 3
Shape = tuple[int, int, int]


def check_segmenter(segmenter: Segmenter) -> None:
    """Click through a volume and an image with a segmenter, and check that it keeps the contract.

    - ``name`` and ``capabilities`` exist. A segmenter whose capabilities exclude volumes, images or negative clicks
      refuses them with an ``InputError``.
    - A mask is bool on the image's own grid, logits are float32 (D, h, w) or None, seconds are two numbers from 0 up.
    - ``undo`` restores the earlier mask bit for bit. ``reset`` and a new session give the same masks again. No global
      random state changes.
    - Later clicks change neither the image nor a mask that was returned. Two sessions do not affect each other.
    - ``add_many`` gives the same answers as ``add``.
    - ``prompt`` takes several clicks, and a box or a mask if ``capabilities`` include them. One ``undo`` takes back all
      of it. Other boxes and masks, and those that do not fit the image, are refused with an ``InputError``.
    - A click outside the image, an undo without a click, a closed session, an image with two axes or with NaN are
      refused with an ``InputError``. A refused click leaves the session as it was.

    It places a few dozen clicks on small images. Speed and quality are not checked.

    Args:
        segmenter: an instance.

    Raises:
        InputError: the contract is broken; the message has one line for each fault.

    Example:
        >>> from synthfm_env import make_segmenter
        >>> check_segmenter(make_segmenter("geodesic"))
    """
    problems = list(_check_attributes(segmenter))
    if not problems:
        for shape in (VOLUME, IMAGE):
            problems += [problem for problem in _check_on_grid(segmenter, shape) if problem not in problems]
    if problems:
        lines = "\n".join(f"- {problem}" for problem in problems)
        raise InputError(f"check_segmenter({type(segmenter).__name__}): the following must be fixed:\n{lines}")


# Each check yields a line for each fault.


def _check_attributes(segmenter: Any) -> Iterator[str]:
    if not isinstance(segmenter, Segmenter):
        yield f"expected an instance of a subclass of synthfm_env.Segmenter, got {segmenter!r}"
        return
    name = getattr(segmenter, "name", None)
    if not (isinstance(name, str) and name):
        yield f"name is {name!r}: expected a text to record it under"
    capabilities = getattr(segmenter, "capabilities", None)
    if not isinstance(capabilities, Capabilities):
        yield f"capabilities is {capabilities!r}: expected a synthfm_env.segmenters.Capabilities"


def _check_on_grid(segmenter: Segmenter, shape: Shape) -> Iterator[str]:
    takes = segmenter.capabilities.images if shape[0] == 1 else segmenter.capabilities.volumes
    image = _test_image(shape)
    if not takes:
        what = "an image of one slice" if shape[0] == 1 else "a volume"
        yield from _check_refused(
            f"its capabilities exclude {what}, but start", lambda: segmenter.start(image, SPACING)
        )
        return
    before = global_random_state()
    kept = image.copy()
    for check in _CHECKS:
        try:
            yield from check(segmenter, image)
        except Exception as error:
            yield f"on a grid of {shape}: {type(error).__name__}: {' '.join(str(error).split())}"
            return
    if not np.array_equal(image, kept):
        yield "it changed the image in place: work on a copy"
    if global_random_state() != before:
        yield "it draws from a global random state: use your own generator, with a fixed seed"


def _check_answers(segmenter: Segmenter, image: NDArray[np.uint8]) -> Iterator[str]:
    with segmenter.start(image, SPACING) as session:
        if not isinstance(session, Session):
            yield f"start returned {type(session).__name__}: expected a subclass of synthfm_env.Session"
            return
        if session.clicks != ():
            yield f"a new session has the clicks {session.clicks!r}: expected an empty tuple"
        placed: list[Click] = []
        returned: list[tuple[Prediction, NDArray[Any]]] = []
        for click in _clicks(segmenter, image):
            answer = session.add(click)
            placed.append(click)
            yield from _check_prediction(answer, image)
            if session.clicks != tuple(placed):
                yield f"session.clicks is {session.clicks!r} after {len(placed)} clicks: expected these, oldest first"
            returned.append((answer, np.array(answer.mask)))
        if any(not np.array_equal(answer.mask, mask) for answer, mask in returned):
            yield "a later click changed a mask that was returned: return a new array each time"
    if not segmenter.capabilities.negative_clicks:
        with segmenter.start(image, SPACING) as session:
            session.add(_clicks(segmenter, image)[0])
            click = Click((0, 0, 0), positive=False)
            yield from _check_refused("its capabilities exclude negative clicks, but add", lambda: session.add(click))


def _check_prediction(answer: Any, image: NDArray[np.uint8]) -> Iterator[str]:
    if not isinstance(answer, Prediction):
        yield f"a method returned {type(answer).__name__}: expected a synthfm_env.Prediction"
        return
    mask, logits = answer.mask, answer.logits
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != image.shape:
        yield f"the mask is {_type_and_shape(mask)}: expected bool {image.shape}, the image's own grid"
    fits = isinstance(logits, np.ndarray) and logits.dtype == np.float32
    if logits is not None and not (fits and logits.ndim == 3 and logits.shape[0] == image.shape[0]):
        yield f"the logits are {_type_and_shape(logits)}: expected None, or float32 ({image.shape[0]}, h, w)"
    seconds = answer.seconds
    if len(seconds) != 2 or not all(isinstance(value, int | float) and 0 <= value < np.inf for value in seconds):
        yield f"the seconds are {seconds!r}: expected Seconds(encode, predict), two numbers from 0 up"


def _check_undo(segmenter: Segmenter, image: NDArray[np.uint8]) -> Iterator[str]:
    clicks = _clicks(segmenter, image)
    with segmenter.start(image, SPACING) as session:
        masks = [session.add(click).mask.copy() for click in clicks]
        for count in range(len(clicks) - 1, 0, -1):
            back = session.undo()
            if not np.array_equal(back.mask, masks[count - 1]):
                yield "undo did not restore the earlier mask bit for bit"
            if session.clicks != tuple(clicks[:count]):
                yield "undo left the click among session.clicks"
        if not np.array_equal(session.add(clicks[1]).mask, masks[1]):
            yield "after an undo the same click gave another mask: forget all that it had changed"


def _check_repetition(segmenter: Segmenter, image: NDArray[np.uint8]) -> Iterator[str]:
    clicks = _clicks(segmenter, image)
    with segmenter.start(image, SPACING) as session:
        first = [session.add(click).mask.copy() for click in clicks]
        session.reset()
        if session.clicks != ():
            yield "reset left clicks in session.clicks"
        if not _equal(first, [session.add(click).mask for click in clicks]):
            yield "after reset the same clicks gave other masks: forget all clicks, and seed all random numbers"
    with segmenter.start(image, SPACING) as session:
        if not _equal(first, [session.add(click).mask for click in clicks]):
            yield "a new session with the same clicks gave other masks: runs could not be replayed"


def _check_independence(segmenter: Segmenter, image: NDArray[np.uint8]) -> Iterator[str]:
    clicks, other = _clicks(segmenter, image), np.ascontiguousarray(image[:, ::-1])
    with segmenter.start(image, SPACING) as session:
        alone = [session.add(click).mask.copy() for click in clicks]
    with segmenter.start(image, SPACING) as session, segmenter.start(other, SPACING) as second:
        mixed = []
        for click in clicks:
            second.add(clicks[0])
            mixed.append(session.add(click).mask.copy())
    if not _equal(alone, mixed):
        yield "a second session changed the masks of the first: keep the state of an image in its session"


def _check_batch(segmenter: Segmenter, image: NDArray[np.uint8]) -> Iterator[str]:
    clicks, other = _clicks(segmenter, image), np.ascontiguousarray(image[:, ::-1])
    with segmenter.start(image, SPACING) as one, segmenter.start(other, SPACING) as two:
        alone = [one.add(clicks[0]).mask.copy(), two.add(clicks[0]).mask.copy()]
    with segmenter.start(image, SPACING) as one, segmenter.start(other, SPACING) as two:
        together = [answer.mask for answer in segmenter.add_many([one, two], [clicks[0], clicks[0]])]
    if not _equal(alone, together):
        yield "add_many gave other masks than add: leave it out, or answer the same"


def _check_prompts(segmenter: Segmenter, image: NDArray[np.uint8]) -> Iterator[str]:
    clicks, takes = _clicks(segmenter, image), segmenter.capabilities
    box = Box((image.shape[0] // 2, 4, 4), (image.shape[0] // 2 + 1, image.shape[1] - 4, image.shape[2] - 4))
    mask = np.zeros(image.shape, dtype=bool)
    mask[box.slices] = True
    kinds: list[tuple[str, bool, dict[str, Any]]] = [
        ("several clicks", True, {"clicks": clicks[:2]}),
        ("boxes", takes.boxes, {"box": box}),
        ("an initial mask", takes.initial_mask, {"mask": mask}),
    ]
    for what, supported, prompt in kinds:
        with segmenter.start(image, SPACING) as session:
            first = session.add(clicks[0]).mask.copy()
            if not supported:
                promise = f"its capabilities exclude {what}, but prompt"
                yield from _check_refused(promise, lambda: session.prompt(**prompt))  # noqa: B023
            else:
                yield from _check_prediction(session.prompt(**prompt), image)
                if not np.array_equal(session.undo().mask, first) or session.clicks != (clicks[0],):
                    yield f"undo did not take back a prompt of {what} as a whole"
    with segmenter.start(image, SPACING) as session:
        session.add(clicks[0])
        outside = Box((0, 0, 0), (1, image.shape[1] + 1, 1))
        yield from _check_refused("prompt of a box outside the image", lambda: session.prompt(box=outside))
        yield from _check_refused("prompt of a mask on another grid", lambda: session.prompt(mask=mask[:, 1:]))
        yield from _check_refused("an empty prompt", session.prompt)
        if session.clicks != (clicks[0],):
            yield "a refused prompt changed session.clicks: leave the session as it was"


def _check_refusals(segmenter: Segmenter, image: NDArray[np.uint8]) -> Iterator[str]:
    clicks = _clicks(segmenter, image)
    with segmenter.start(image, SPACING) as session:
        yield from _check_refused("undo without a click", session.undo)
        session.add(clicks[0])
        for outside in (Click(image.shape), Click((0, -1, 0))):
            yield from _check_refused(f"add of the click {outside}, outside the image,", lambda: session.add(outside))  # noqa: B023
        if session.clicks != (clicks[0],):
            yield "a refused click changed session.clicks: leave the session as it was"
    bad = image.astype(np.float32)
    bad[0, 0, 0] = np.nan
    yield from _check_refused("start on an image with two axes", lambda: segmenter.start(image[0], SPACING))
    yield from _check_refused("start on an image with NaN", lambda: segmenter.start(bad, SPACING))
    yield from _check_refused("start with a spacing of 0", lambda: segmenter.start(image, (1.0, 0.0, 1.0)))


def _check_closing(segmenter: Segmenter, image: NDArray[np.uint8]) -> Iterator[str]:
    click = _clicks(segmenter, image)[0]
    session = segmenter.start(image, SPACING)
    session.add(click)
    session.close()
    session.close()
    for name, verb in (("add", lambda: session.add(click)), ("undo", session.undo), ("reset", session.reset)):
        yield from _check_refused(f"{name} on a closed session", verb)


def _check_image_types(segmenter: Segmenter, image: NDArray[np.uint8]) -> Iterator[str]:
    click = _clicks(segmenter, image)[0]
    for what, other in (
        ("RGB", np.repeat(image[..., None], 3, axis=-1)),
        ("float32", image.astype(np.float32) - 40),
        ("read-only", _read_only(image)),
    ):
        try:
            with segmenter.start(other, SPACING) as session:
                yield from _check_prediction(session.add(click), image)
        except Exception as error:
            yield f"an image that is {what} raised {type(error).__name__}: {' '.join(str(error).split())}"


_CHECKS = (
    _check_answers,
    _check_undo,
    _check_repetition,
    _check_independence,
    _check_batch,
    _check_prompts,
    _check_refusals,
    _check_closing,
    _check_image_types,
)


def _check_refused(what: str, call: Callable[[], Any]) -> Iterator[str]:
    try:
        call()
    except InputError:
        return
    except Exception as error:
        yield f"{what} raised {type(error).__name__}: expected an InputError with a remedy"
    else:
        yield f"{what} raised nothing: expected an InputError"


def _test_image(shape: Shape) -> NDArray[np.uint8]:
    """Return a bright box on a dark background with noise, uint8."""
    noise = np.random.default_rng(SEED).integers(0, 30, shape, dtype=np.uint8)
    noise[tuple(slice(n // 4, n - n // 4) for n in shape)] += 120
    return noise


def _clicks(segmenter: Segmenter, image: NDArray[np.uint8]) -> list[Click]:
    depth, height, width = image.shape
    clicks = [
        Click((depth // 2, height // 2, width // 2)),
        Click((0, 1, 2), positive=False),
        Click((depth - 1, height // 2, width // 4)),
    ]
    return [click for click in clicks if click.positive or segmenter.capabilities.negative_clicks]


def _equal(before: list[NDArray[Any]], after: list[NDArray[Any]]) -> bool:
    return all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))


def _read_only(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    copy = image.copy()
    copy.flags.writeable = False
    return copy


def _type_and_shape(array: Any) -> str:
    return f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
