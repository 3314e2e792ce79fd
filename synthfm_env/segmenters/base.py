"""Defines the contract of promptable models: encode an image once, prompt it many times."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from synthfm_env.errors import InputError
from synthfm_env.printable import shown
from synthfm_env.prompts import Box, Click, as_clicks


class Seconds(NamedTuple):
    """Wall-clock seconds of one answer: ``encode`` for the image, once; ``predict`` for the prompt, each time."""

    encode: float
    predict: float


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Prompts and images that a segmenter takes. Any other call raises an InputError that names the limit.

    Attributes:
        volumes: images of several slices.
        images: images of one slice.
        negative_clicks: clicks outside the structure.
        boxes: ``Session.prompt(box=...)``.
        initial_mask: ``Session.prompt(mask=...)``.

    Example:
        >>> Capabilities(boxes=True).boxes
        True
    """

    volumes: bool = True
    images: bool = True
    negative_clicks: bool = True
    boxes: bool = False
    initial_mask: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """A segmenter's answer to all prompts so far.

    Attributes:
        mask: bool (D, H, W), the image's own grid.
        logits: float32 (D, h, w) in the model's own in-plane resolution, above 0 inside; None if the
            model has none.
        seconds: time that the answer took.

    Example:
        >>> import numpy as np
        >>> answer = Prediction(np.ones((1, 4, 4), bool), logits=None, seconds=Seconds(encode=0.5, predict=0.1))
        >>> answer.mask.shape, sum(answer.seconds)
        ((1, 4, 4), 0.6)
    """

    mask: NDArray[np.bool_]
    logits: NDArray[np.float32] | None
    seconds: Seconds


class Session(ABC):
    """Segments one structure in one image, prompt by prompt. As a context manager it closes itself.

    After ``close`` every method raises InputError. A method that raises leaves the session as it was.

    A subclass implements the abstract methods. The default of ``prompt`` gives clicks one after the other and refuses
    boxes and masks. A segmenter that takes several clicks at once, a box or a mask overrides it.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Make ``undo`` take back all clicks of one ``prompt``, and ``reset`` forget which clicks came together."""
        super().__init_subclass__(**kwargs)
        if "undo" in cls.__dict__:
            setattr(cls, "undo", _undo_whole_prompts(cls.__dict__["undo"]))  # noqa: B010 - mypy takes no assignment
        if "reset" in cls.__dict__:
            setattr(cls, "reset", _forget_prompts(cls.__dict__["reset"]))  # noqa: B010

    @property
    @abstractmethod
    def clicks(self) -> tuple[Click, ...]:
        """The clicks in force, oldest first."""

    @abstractmethod
    def add(self, click: Click) -> Prediction:
        """Add a click and return the answer to all prompts so far.

        Raises:
            InputError: the click is outside the image, or the session is closed.
        """

    def prompt(
        self, clicks: Sequence[Click] = (), *, box: Box | None = None, mask: NDArray[np.bool_] | None = None
    ) -> Prediction:
        """Add clicks, a box and a mask at once and return one answer to all prompts so far.

        ``add(click)`` is the case of one click. One ``undo`` takes back the whole prompt.

        Args:
            clicks: given together: no mask is fed back between them if the model can do that. The default adds them
                one after the other.
            box: needs ``capabilities.boxes``. A box of one slice is a 2D box.
            mask: bool (D, H, W), a first guess of the structure; needs ``capabilities.initial_mask``.

        Raises:
            InputError: the prompt is empty, the segmenter takes no boxes or no masks, one does not fit the image, or
                as ``add``.

        Example:
            >>> import numpy as np
            >>> from synthfm_env import Click, make_segmenter
            >>> with make_segmenter("geodesic").start(np.zeros((4, 16, 16), np.uint8), (1.0, 1.0, 1.0)) as session:
            ...     mask = session.prompt([Click((2, 8, 8)), Click((2, 1, 1), positive=False)]).mask
            ...     bool(session.undo().mask.any())
            False
        """
        if box is not None:
            raise InputError(f"box {box}: this segmenter takes no boxes (capabilities.boxes is False); give clicks")
        if mask is not None:
            raise InputError("a mask: this segmenter takes none (capabilities.initial_mask is False); give clicks")
        clicks = as_clicks(clicks)
        if not clicks:
            raise InputError("an empty prompt: give at least one click")
        before, answers = len(self.clicks), []
        try:
            for click in clicks:
                answers.append(self.add(click))
        except BaseException:
            for _ in answers:
                self.undo()
            raise
        if len(answers) > 1:
            _prompts_of(self).append((before, len(self.clicks)))
        seconds = [answer.seconds for answer in answers]
        total = Seconds(sum(s.encode for s in seconds), sum(s.predict for s in seconds))
        return replace(answers[-1], seconds=total)

    @abstractmethod
    def undo(self) -> Prediction:
        """Take back the newest prompt and return the earlier answer, its mask bit for bit.

        Raises:
            InputError: there is no prompt to take back, or the session is closed.
        """

    @abstractmethod
    def reset(self) -> None:
        """Remove all prompts and keep the encoded image."""

    @abstractmethod
    def close(self) -> None:
        """Free the memory of the session. May be called twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _prompts_of(session: Session) -> list[tuple[int, int]]:
    """Return the number of clicks before and after each prompt of several clicks, oldest first."""
    prompts: list[tuple[int, int]] = session.__dict__.setdefault("_prompts_of_several_clicks", [])
    return prompts


def _undo_whole_prompts(undo: Callable[[Any], Prediction]) -> Callable[[Any], Prediction]:
    """Wrap ``undo`` of a subclass: repeat it until all clicks of the newest prompt are taken back."""

    @wraps(undo)
    def undo_prompt(self: Session) -> Prediction:
        prompts = _prompts_of(self)
        if not prompts or prompts[-1][1] != len(self.clicks):
            return undo(self)
        before, after = prompts[-1]
        answer = undo(self)
        prompts.pop()
        for _ in range(after - before - 1):
            answer = undo(self)
        return answer

    return undo_prompt


def _forget_prompts(reset: Callable[[Any], None]) -> Callable[[Any], None]:
    @wraps(reset)
    def reset_prompts(self: Session) -> None:
        reset(self)
        _prompts_of(self).clear()

    return reset_prompts


class Segmenter(ABC):
    """A promptable model. Many sessions share it; it holds no state of a session.

    Example:
        >>> import numpy as np
        >>> from synthfm_env import Click, make_segmenter
        >>> image = np.zeros((4, 16, 16), np.uint8)
        >>> image[1:3, 4:10, 4:10] = 200
        >>> with make_segmenter("geodesic").start(image, spacing=(2.0, 1.0, 1.0)) as session:
        ...     int(session.add(Click((1, 6, 6))).mask.sum())
        45
    """

    name: str
    capabilities: Capabilities

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Make ``start`` note in each session which segmenter opened it, so that ``add_many`` can tell."""
        super().__init_subclass__(**kwargs)
        # An inherited one as well: it may come from a class that is no segmenter.
        setattr(cls, "start", _note_segmenter(cls.start))  # noqa: B010 - mypy takes no assignment

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        """Return itself: Gymnasium copies an environment's arguments, and a model is shared, never copied."""
        return self

    @abstractmethod
    def start(self, image: NDArray, spacing: tuple[float, float, float]) -> Session:
        """Open a session on an image.

        Args:
            image: (D, H, W) grey or (D, H, W, 3) RGB, axes (z, y, x). uint8 is used unchanged (see
                ``volumes.to_uint8``); any other dtype is scaled as ``to_uint8(image, "other")`` does.
            spacing: (z, y, x) in mm.

        Raises:
            InputError: an empty image, another number of axes, NaN or infinite voxels, a spacing that is not
                positive.
        """

    def add_many(self, sessions: Sequence[Session], clicks: Sequence[Click]) -> list[Prediction]:
        """Add one click to each of several sessions, as ``session.add`` does. A segmenter may answer them in a batch.

        Args:
            sessions: different sessions of this segmenter.
            clicks: one for each session.

        Returns:
            The answers, in the order of the sessions.

        Raises:
            InputError: as ``check_batch`` or ``session.add``. All sessions are then as they were.
        """
        check_batch(self, sessions, clicks)
        answers: list[Prediction] = []
        try:
            for session, click in zip(sessions, clicks, strict=True):
                answers.append(session.add(click))
        except BaseException:
            for session in sessions[: len(answers)]:
                session.undo()
            raise
        return answers


def _segmenters_of(session: Session) -> list[Segmenter]:
    """Return the segmenters whose ``start`` returned a session: several if one delegates to another."""
    segmenters: list[Segmenter] = session.__dict__.setdefault("_opened_by_segmenters", [])
    return segmenters


def _note_segmenter(start: Callable[..., Session]) -> Callable[..., Session]:
    @wraps(start)
    def start_noted(self: Segmenter, *args: Any, **kwargs: Any) -> Session:
        session = start(self, *args, **kwargs)
        if isinstance(session, Session):
            _segmenters_of(session).append(self)
        return session

    return start_noted


def check_batch(segmenter: Segmenter, sessions: Sequence[Session], clicks: Sequence[Click]) -> None:
    """Check the arguments of ``Segmenter.add_many``.

    Args:
        segmenter: whose ``add_many`` it is.
        sessions: anything.
        clicks: anything.

    Raises:
        InputError: one of them is no sequence, their numbers differ, a session is given twice, or one was not
            opened by ``segmenter.start``.
    """
    if not isinstance(sessions, Sequence) or not isinstance(clicks, Sequence):
        raise InputError("add_many: expected a list of sessions and a list of clicks, one for each session")
    if len(sessions) != len(clicks):
        raise InputError(
            f"add_many: {len(sessions)} sessions and {len(clicks)} clicks; give one click for each session"
        )
    if len({id(session) for session in sessions}) != len(sessions):
        raise InputError("add_many: a session comes twice; give its clicks one after the other")
    for session in sessions:
        if not isinstance(session, Session):
            raise InputError(f"add_many: {shown(session)} is no session; open one with segmenter.start")
        if not any(each is segmenter for each in _segmenters_of(session)):
            raise InputError(f"add_many: a session is of another segmenter than {shown(segmenter.name)}")
