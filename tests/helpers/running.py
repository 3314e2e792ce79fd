"""Provides segmenters, servers and clients for the tests of ``synthfm serve``."""

import contextlib
import threading
from collections.abc import Iterator

import numpy as np
import uvicorn
from numpy.typing import NDArray
from starlette.applications import Starlette

from synthfm_bench.serve.listen import listen, url_of
from synthfm_env.prompts import Box, Click
from synthfm_env.segmenters import Capabilities, Prediction, Seconds, Segmenter, Session


class CornerSession(Session):
    """Fills, for each prompt, what is at higher z, y and x than its click: no two axes or directions are alike."""

    def __init__(self, image: NDArray) -> None:
        self._shape = image.shape
        self._prompts: list[tuple[tuple[Click, ...], Box | None, NDArray[np.bool_] | None]] = []

    @property
    def clicks(self) -> tuple[Click, ...]:
        return tuple(click for clicks, *_ in self._prompts for click in clicks)

    def add(self, click: Click) -> Prediction:
        return self.prompt([click])

    def prompt(self, clicks=(), *, box=None, mask=None) -> Prediction:
        for click in clicks:
            click.check_inside(self._shape)
        self._prompts.append((tuple(clicks), box, mask))
        return self._answer()

    def undo(self) -> Prediction:
        self._prompts.pop()
        return self._answer()

    def reset(self) -> None:
        self._prompts.clear()

    def close(self) -> None:
        pass

    def _answer(self) -> Prediction:
        answer = np.zeros(self._shape, dtype=bool)
        for clicks, box, mask in self._prompts:
            if mask is not None:
                answer |= mask
            if box is not None:
                answer[tuple(slice(*side) for side in zip(box.start, box.stop, strict=True))] = True
            for click in clicks:
                z, y, x = click.zyx
                answer[z:, y:, x:] = click.positive
        return Prediction(answer, None, Seconds(0.0, 0.0))


class Corner(Segmenter):
    """Takes every kind of prompt."""

    name = "corner"
    capabilities = Capabilities(boxes=True, initial_mask=True)

    def start(self, image: NDArray, spacing: tuple[float, float, float]) -> Session:
        return CornerSession(image)


class Spacing(Segmenter):
    """Answers with a box of 10 mm around the last click, so that its extent shows the spacing it was given."""

    name = "spacing"
    capabilities = Capabilities(negative_clicks=False)

    def start(self, image: NDArray, spacing: tuple[float, float, float]) -> Session:
        return _SpacingSession(image, spacing)


class _SpacingSession(CornerSession):
    def __init__(self, image: NDArray, spacing: tuple[float, float, float]) -> None:
        super().__init__(image)
        self._spacing = spacing

    def _answer(self) -> Prediction:
        answer = np.zeros(self._shape, dtype=bool)
        for click in self.clicks:
            sides = zip(click.zyx, self._spacing, strict=True)
            answer[tuple(slice(max(0, i - round(10 / mm)), i + round(10 / mm) + 1) for i, mm in sides)] = True
        return Prediction(answer, None, Seconds(0.0, 0.0))


@contextlib.contextmanager
def serving(app: Starlette) -> Iterator[str]:
    """Serve an application on a free port of loopback, and yield its address."""
    bound = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False, timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, args=([bound],))
    thread.start()
    try:
        yield url_of(bound)
    finally:
        server.should_exit = True
        thread.join()
        bound.close()
