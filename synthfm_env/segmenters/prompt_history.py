"""Defines a session that computes each answer from all prompts and keeps all answers for ``undo``."""

import time
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from synthfm_env.errors import InputError
from synthfm_env.prompts import Box, Click, Prompt
from synthfm_env.segmenters.base import Capabilities, Prediction, Seconds, Session

Shape = tuple[int, int, int]


class PromptHistorySession(Session):
    """Base of sessions that compute each answer from all prompts: checks prompts, times answers, keeps all masks.

    Masks are kept packed, eight voxels in a byte, so ``undo`` is exact. A subclass implements ``_answer``. A model with
    a state of its own also implements ``_take_back``, ``_forget`` and ``_release``.
    """

    def __init__(self, name: str, capabilities: Capabilities, shape: Shape, encode_seconds: float = 0.0) -> None:
        """Start without prompts.

        Args:
            name: of the segmenter, for messages.
            capabilities: other prompts are refused.
            shape: (D, H, W) of the image.
            encode_seconds: time of opening the image, reported with the first answer.
        """
        self._name = name
        self._capabilities = capabilities
        self._shape = shape
        self._encode_seconds = encode_seconds
        # All prompts in force after each prompt, with the packed mask.
        self._history: list[tuple[Prompt, NDArray[np.uint8]]] = []
        self._closed = False

    @property
    def clicks(self) -> tuple[Click, ...]:
        """The clicks in force, oldest first."""
        return self._prompts.clicks

    def add(self, click: Click) -> Prediction:
        """Add a click; see ``Session.add``."""
        return self.prompt((click,))

    def prompt(
        self, clicks: Sequence[Click] = (), *, box: Box | None = None, mask: NDArray[np.bool_] | None = None
    ) -> Prediction:
        """Add clicks, a box and a mask at once; see ``Session.prompt``."""
        self._check_open()
        prompt = Prompt.of(clicks, box, mask)
        self._check(prompt)
        began, encoded = time.perf_counter(), self._encode_seconds
        before = self._prompts
        prompts = replace(
            before,
            clicks=(*before.clicks, *prompt.clicks),
            box=before.box if box is None else box,
            mask=before.mask if mask is None else mask.copy(),
        )
        answer = self._answer(prompts)
        self._history.append((prompts, np.packbits(answer)))
        spent = time.perf_counter() - began - (self._encode_seconds - encoded)
        return self._predicted(answer, spent)

    def undo(self) -> Prediction:
        """Take back the newest prompt; see ``Session.undo``."""
        self._check_open()
        if not self._history:
            raise InputError("session.undo(): there is no click to undo")
        began = time.perf_counter()
        self._take_back()
        self._history.pop()
        return self._predicted(self._mask, time.perf_counter() - began)

    def reset(self) -> None:
        """Remove all prompts and keep the encoded image."""
        self._check_open()
        self._forget()
        self._history.clear()

    def close(self) -> None:
        """Free the memory of the session. May be called twice."""
        if not self._closed:
            self._closed = True
            self._history.clear()
            self._release()

    @abstractmethod
    def _answer(self, prompts: Prompt) -> NDArray[np.bool_]:
        """Return the mask for all prompts in force, a new bool (D, H, W) array.

        ``_prompts`` and ``_mask`` are still those before the newest prompt.

        Args:
            prompts: every click, the newest box and the newest mask, with those of the newest prompt.
        """

    def _take_back(self) -> None:
        """Undo the newest prompt, which is still in the history, in the model's own state."""

    def _forget(self) -> None:
        """Reset the model's own state."""

    def _release(self) -> None:
        """Free the model's own state."""

    @contextmanager
    def _encoding(self) -> Iterator[None]:
        """Count the time of the block as encoding."""
        began = time.perf_counter()
        yield
        self._encode_seconds += time.perf_counter() - began

    @property
    def _prompts(self) -> Prompt:
        return self._history[-1][0] if self._history else Prompt()

    @property
    def _mask(self) -> NDArray[np.bool_]:
        """The newest answer as a new array; empty without prompts."""
        if not self._history:
            return np.zeros(self._shape, dtype=bool)
        count = int(np.prod(self._shape))
        return np.unpackbits(self._history[-1][1], count=count).reshape(self._shape).view(bool)

    def _predicted(self, mask: NDArray[np.bool_], predict: float) -> Prediction:
        encode, self._encode_seconds = self._encode_seconds, 0.0
        return Prediction(mask, None, Seconds(encode, max(0.0, predict)))

    def _check_open(self) -> None:
        if self._closed:
            raise InputError("this session is closed; open another with segmenter.start(image, spacing)")

    def _check(self, prompt: Prompt) -> None:
        """Raise InputError for a prompt outside the image or beyond the capabilities."""
        prompt.check(self._shape)
        for click in prompt.clicks:
            if not click.positive and not self._capabilities.negative_clicks:
                raise InputError(f"click {click}: {self._name} takes no negative clicks; give positive ones")
        if prompt.box is not None and not self._capabilities.boxes:
            raise InputError(f"box {prompt.box}: {self._name} takes no boxes; give clicks")
        if prompt.mask is not None and not self._capabilities.initial_mask:
            raise InputError(f"a mask: {self._name} takes no initial mask; give clicks")
