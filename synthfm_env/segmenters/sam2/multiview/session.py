"""Implements the default session: tracking in several views, click prior, refiner and a crop that follows."""

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synthfm_env.errors import InputError
from synthfm_env.geometry import FEWEST_SLICES, Crop
from synthfm_env.prompts import Box, Click, Prompt
from synthfm_env.segmenters.base import Prediction, Seconds, Session
from synthfm_env.segmenters.click_distances import KEPT_MAPS, ClickDistances
from synthfm_env.segmenters.focus import Shape, whole_crop
from synthfm_env.segmenters.sam2.multiview.answer import Answer
from synthfm_env.segmenters.sam2.multiview.click_prior import click_prior
from synthfm_env.segmenters.sam2.multiview.focus import MultiViewFocus, Proposal
from synthfm_env.segmenters.sam2.multiview.refiner_input import RefinerInput
from synthfm_env.segmenters.sam2.multiview.view import MultiView, States
from synthfm_env.segmenters.stopwatch import Stopwatch


class MultiViewSession(Session):
    """Segments one structure with SAM 2, in a crop that follows the structure's size.

    A prompt is answered in four steps:

    1. ``MultiView.track`` propagates it through each stack of the crop: three planes of a volume, or eight orientations
       of an image or thin stack.
    2. ``click_prior`` adds logits from geodesic distances to the clicks.
    3. The refiner corrects the sum, for volumes only.
    4. ``MultiViewFocus`` proposes another crop if the mask does not fit this one; steps 1 to 3 run again there, with
       all prompts.

    The first prompt is answered on an overview of the whole image. SAM 2's masks have a quarter of its resolution, so
    small organs need a crop of their own.
    """

    def __init__(
        self,
        open_view: Callable[[Crop, bool], MultiView],
        shape: Shape,
        encoding: Stopwatch,
        *,
        zoom: bool,
        measure: Callable[[], ClickDistances] | None,
        refine: Callable[[RefinerInput], Tensor] | None,
    ) -> None:
        """Prepare the overview; slices are encoded at the first prompt.

        Args:
            open_view: makes a view of a crop, with all slices or as an overview.
            shape: (D, H, W) of the image.
            encoding: runs while slices are encoded or distances prepared.
            zoom: whether step 4 runs; without it every prompt is answered on the whole image.
            measure: prepares distances to clicks, for step 2; None leaves out steps 2 and 3.
            refine: returns corrected logits, for step 3; None leaves it out.
        """
        self._open_view, self._shape, self._encoding = open_view, shape, encoding
        self._zoom, self._measure = zoom, measure
        self._refine = None if shape[0] < FEWEST_SLICES else refine
        self._focus = MultiViewFocus(shape)
        self._overview = open_view(whole_crop(shape), zoom)
        self._no_clicks: ClickDistances | None = None
        self._history: list[Answer] = []
        self._closed = False

    @property
    def clicks(self) -> tuple[Click, ...]:
        """The clicks in force, oldest first."""
        return self._history[-1].clicks if self._history else ()

    def add(self, click: Click) -> Prediction:
        """Add a click; see ``Session.add``."""
        return self.prompt((click,))

    @torch.inference_mode()
    def prompt(
        self, clicks: Sequence[Click] = (), *, box: Box | None = None, mask: NDArray[np.bool_] | None = None
    ) -> Prediction:
        """Add clicks, a box and a mask at once; see ``Session.prompt``, and ``Stack.condition`` for each stack's part.

        Click prior and refiner need a positive click if there is a box or a mask.
        """
        self._check_open()
        prompt = Prompt.of(clicks, box, mask)
        prompt.check(self._shape)
        started, encoded = time.perf_counter(), self._encoding.seconds
        # Steps 1 to 3 on the present crop, then step 4.
        answer = self._next_answer(prompt)
        if self._zoom:
            answer = self._refocused(answer)
        # Append to the history; free what an undo can compute again.
        if self._history and answer.view is not self._history[-1].view:
            self._history[-1].view.drop_features()
        self._history.append(answer)
        if len(self._history) > KEPT_MAPS and (older := self._history[-KEPT_MAPS - 1].distances) is not None:
            older.drop_maps()
        native, preview = answer.on_image_grid(self._shape)
        encode = self._encoding.seconds - encoded
        return Prediction(native, preview, Seconds(encode, time.perf_counter() - started - encode))

    def _next_answer(self, prompt: Prompt) -> Answer:
        """Answer a new prompt on the present crop."""
        if self._history:
            now = self._history[-1]
            view, states, prompts, distances = now.view, now.states, (*now.prompts, prompt), now.distances
        else:
            view, states, prompts, distances = self._overview, self._overview.start, (prompt,), self._prepared()
        if distances is not None:
            for click in prompt.clicks:
                distances = distances.with_click(click)
        return self._answer(view, view.track(states, (prompt,)), prompts, distances)

    def _refocused(self, answer: Answer) -> Answer:
        """Answer all prompts again on proposed crops, and return the last answer that was accepted."""
        answer = self._try(self._focus.after_streak(answer), answer) or answer
        # Up to two crops: the first one may be fitted to a coarse mask of the overview.
        for _ in range(2):
            better = self._try(self._focus.refit(answer), answer)
            if better is None:
                break
            answer = better
        return answer

    def _try(self, proposal: Proposal | None, answer: Answer) -> Answer | None:
        """Return the answer to the same prompts on a proposed crop; None without a proposal, or if it is refused."""
        if proposal is None:
            return None
        view = self._open_view(proposal.crop, proposal.overview)
        states = view.track(view.start, answer.prompts)
        candidate = self._answer(view, states, answer.prompts, answer.distances)
        return candidate if proposal.accepts(candidate) else None

    def _prepared(self) -> ClickDistances | None:
        """Return the distances without clicks; they are prepared once."""
        if self._measure and self._no_clicks is None:
            with self._encoding:
                self._no_clicks = self._measure()
        return self._no_clicks

    def _answer(
        self, view: MultiView, states: States, prompts: tuple[Prompt, ...], distances: ClickDistances | None
    ) -> Answer:
        """Combine the views, the click prior and the refiner."""
        views = view.logits(states)
        logits = views.mean(0)
        clicks = tuple(click for prompt in prompts for click in prompt.clicks)
        # With a box or a mask and no positive click, the prior would mark everything as background.
        has_region = any(prompt.box is not None or prompt.mask is not None for prompt in prompts)
        if distances is None or (has_region and not any(click.positive for click in clicks)):
            return Answer(prompts, view, states, distances, logits)
        depth, height, width = logits.shape
        prior = click_prior(distances, view.crop, (depth, height, width))
        if self._refine is None:
            return Answer(prompts, view, states, distances, logits + prior.logits)
        spread = torch.stack((logits, views.amin(0), views.amax(0)))
        refined = self._refine(RefinerInput(view.crop, spread, prior, view.grey(), clicks))
        return Answer(prompts, view, states, distances, refined)

    def undo(self) -> Prediction:
        """Take back the newest prompt; see ``Session.undo``."""
        self._check_open()
        if not self._history:
            raise InputError("session.undo(): there is no click to undo")
        started = time.perf_counter()
        self._history.pop()
        if not self._history:
            return Prediction(np.zeros(self._shape, dtype=bool), None, Seconds(0.0, 0.0))
        native, preview = self._history[-1].on_image_grid(self._shape)
        return Prediction(native, preview, Seconds(0.0, time.perf_counter() - started))

    def reset(self) -> None:
        """Remove all prompts and keep the encoded overview."""
        self._check_open()
        self._history = []

    def close(self) -> None:
        """Free the views and all masks. May be called twice."""
        self._closed = True
        self._overview.drop_features()
        self._history, self._no_clicks = [], None

    def _check_open(self) -> None:
        if self._closed:
            raise InputError("this session is closed; open another with segmenter.start(image, spacing)")
