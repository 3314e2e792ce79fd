"""The contract between a promptable model and everything that plays with it: encode once, prompt many."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from synthfm_env.errors import InputError
from synthfm_env.prompts import Click


class Seconds(NamedTuple):
    """Wall-clock cost of one answer: ``encode`` is paid once an image, ``predict`` at every click."""

    encode: float
    predict: float


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a segmenter takes. A call beyond it raises an InputError that says so."""

    volumes: bool = True
    images: bool = True
    negative_clicks: bool = True
    boxes: bool = False
    initial_mask: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """A segmenter's answer to all clicks so far.

    Attributes:
        mask: bool (D, H, W), the image's own grid.
        logits: float32 (D, h, w) in the model's own in-plane resolution, above 0 inside; None where the
            model has none.
        seconds: cost of this answer.
    """

    mask: NDArray[np.bool_]
    logits: NDArray[np.float32] | None
    seconds: Seconds


class Session(ABC):
    """One structure in one image, clicked step by step. A context manager: leaving it closes it.

    After ``close`` every verb raises InputError. A verb that raises leaves the session as it was.
    """

    @property
    @abstractmethod
    def clicks(self) -> tuple[Click, ...]:
        """The clicks in force, oldest first."""

    @abstractmethod
    def add(self, click: Click) -> Prediction:
        """Take one more click and return the mask that follows from all of them.

        Raises:
            InputError: the click lies outside the image, or the session is closed.
        """

    @abstractmethod
    def undo(self) -> Prediction:
        """Take back the newest click; the earlier mask comes back bit for bit.

        Raises:
            InputError: there is no click to take back, or the session is closed.
        """

    @abstractmethod
    def reset(self) -> None:
        """Forget all clicks, keep the encoded image."""

    @abstractmethod
    def close(self) -> None:
        """Free what the session holds. May be called twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Segmenter(ABC):
    """A promptable model. Many sessions share it; it holds no state of any of them."""

    name: str
    capabilities: Capabilities

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        """Return itself: Gymnasium copies an environment's arguments, and a model is shared, never copied."""
        return self

    @abstractmethod
    def start(self, image: NDArray, spacing: tuple[float, float, float]) -> Session:
        """Open a session on an image.

        Args:
            image: (D, H, W) grey or (D, H, W, 3) RGB, axes (z, y, x). uint8 is taken as it is (see
                ``volumes.to_uint8``); any other dtype is scaled as ``to_uint8(image, "other")`` does.
            spacing: (z, y, x) in mm.

        Raises:
            InputError: an empty image, another number of axes, NaN or infinite voxels, a spacing that is not
                positive.
        """

    def add_many(self, sessions: Sequence[Session], clicks: Sequence[Click]) -> list[Prediction]:
        """Give each session one more click, as ``session.add`` does; a segmenter may answer them in one batch.

        Args:
            sessions: of this segmenter, no session twice.
            clicks: one for each session, in their order.

        Returns:
            One prediction a session, in their order.

        Raises:
            InputError: not as many clicks as sessions, a session twice, or what ``session.add`` raises. Every
                session is then as it was.
        """
        check_batch(sessions, clicks)
        answers: list[Prediction] = []
        try:
            for session, click in zip(sessions, clicks, strict=True):
                answers.append(session.add(click))
        except BaseException:
            for session in sessions[: len(answers)]:
                session.undo()
            raise
        return answers


def check_batch(sessions: Sequence[Session], clicks: Sequence[Click]) -> None:
    """Check that every session has a click and none comes twice.

    Raises:
        InputError: otherwise.
    """
    if len(sessions) != len(clicks):
        raise InputError(
            f"add_many: {len(sessions)} sessions and {len(clicks)} clicks; give one click for each session"
        )
    if len({id(session) for session in sessions}) != len(sessions):
        raise InputError("add_many: a session comes twice; give its clicks one after the other")
