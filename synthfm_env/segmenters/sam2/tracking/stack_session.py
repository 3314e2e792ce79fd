"""Implements the session on a single stack of slices, for the presets "stock" and "fast"."""

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from synthfm_env.errors import InputError
from synthfm_env.prompts import Box, Click, Prompt
from synthfm_env.segmenters.base import Prediction, Seconds, Session
from synthfm_env.segmenters.sam2.slice_memory import StackState
from synthfm_env.segmenters.sam2.tracking.stack import Stack, advance
from synthfm_env.segmenters.stopwatch import Stopwatch


class StackSession(Session):
    """Segments one structure with SAM 2 on the slices along z.

    After each prompt the prompted slices are decoded and become conditioning slices. Then the stack is tracked from the
    lowest of them up to the last slice and down to the first. ``SAM2VideoPredictor`` does the same with
    ``add_all_frames_to_correct_as_cond=True`` and a propagation forward and in reverse after each prompt. Slices are
    encoded once; stock SAM 2 encodes them again at every propagation.
    """

    def __init__(self, stack: Stack, encoding: Stopwatch) -> None:
        """Start without prompts; ``encoding`` measures the time of encoding slices."""
        self._stack, self._encoding = stack, encoding
        self._history = [StackState()]
        self._closed = False

    @property
    def clicks(self) -> tuple[Click, ...]:
        """The clicks in force, oldest first."""
        return self._history[-1].clicks

    def add(self, click: Click) -> Prediction:
        """Add a click; see ``Session.add``."""
        return add_together([self], [Prompt((click,))])[0]

    def prompt(
        self, clicks: Sequence[Click] = (), *, box: Box | None = None, mask: NDArray[np.bool_] | None = None
    ) -> Prediction:
        """Add clicks, a box and a mask at once; see ``Session.prompt`` and ``Stack.condition``."""
        return add_together([self], [Prompt.of(clicks, box, mask)])[0]

    def undo(self) -> Prediction:
        """Take back the newest prompt; see ``Session.undo``."""
        self._check_open()
        if len(self._history) == 1:
            raise InputError("session.undo(): there is no click to undo")
        started = time.perf_counter()
        self._history.pop()
        if len(self._history) == 1:
            return Prediction(np.zeros(self._stack.shape, dtype=bool), None, Seconds(0.0, 0.0))
        return replace(self._prediction(), seconds=Seconds(0.0, time.perf_counter() - started))

    def reset(self) -> None:
        """Remove all prompts and keep the encoded slices."""
        self._check_open()
        del self._history[1:]

    def close(self) -> None:
        """Free the encoded slices and all masks. May be called twice."""
        self._closed = True
        self._history = [StackState()]
        self._stack.features.clear()

    def _check_open(self) -> None:
        if self._closed:
            raise InputError("this session is closed; open another with segmenter.start(image, spacing)")

    def _prediction(self) -> Prediction:
        # Masks are computed again instead of kept, because a large volume's mask takes more memory than its state.
        logits = self._stack.logits(self._history[-1])
        return Prediction(_image_mask(logits, self._stack.shape), logits[:, 0].cpu().numpy(), Seconds(0.0, 0.0))


def add_together(sessions: Sequence[StackSession], prompts: Sequence[Prompt]) -> list[Prediction]:
    """Apply one prompt to each session, in batches; see ``advance``.

    Args:
        sessions: different sessions of one segmenter.
        prompts: one for each session.

    Raises:
        InputError: as ``Session.prompt``; all sessions are then as they were.
    """
    for session, prompt in zip(sessions, prompts, strict=True):
        session._check_open()
        prompt.check(session._stack.shape)
    started, encoded = time.perf_counter(), [session._encoding.seconds for session in sessions]
    states = advance(
        [session._stack for session in sessions],
        [session._history[-1] for session in sessions],
        [[prompt] for prompt in prompts],
    )
    encoded = [session._encoding.seconds - before for session, before in zip(sessions, encoded, strict=True)]
    each = (time.perf_counter() - started - sum(encoded)) / max(1, len(sessions))
    predictions = []
    for session, state, encode in zip(sessions, states, encoded, strict=True):
        began = time.perf_counter()
        session._history.append(state)
        prediction = session._prediction()
        predictions.append(replace(prediction, seconds=Seconds(encode, each + time.perf_counter() - began)))
    return predictions


def _image_mask(logits: Tensor, shape: tuple[int, int, int]) -> NDArray[np.bool_]:
    """Interpolate (D, 1, h, w) logits to the image's grid and threshold them, sixteen slices at a time."""
    mask = np.empty(shape, dtype=bool)
    for z in range(0, shape[0], 16):
        full = F.interpolate(logits[z : z + 16], size=shape[1:], mode="bilinear", align_corners=False)
        mask[z : z + 16] = (full[:, 0] > 0).cpu().numpy()
    return mask
