"""Implements the default session: SAM 2 in several views, the volume network beside it, and a crop that follows."""

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synthfm_env.errors import InputError
from synthfm_env.geometry import Crop
from synthfm_env.prompts import Box, Click, Prompt
from synthfm_env.segmenters.base import Prediction, Seconds, Session
from synthfm_env.segmenters.focus import Shape, covered_extent, whole_crop
from synthfm_env.segmenters.sam2.multiview.answer import Answer
from synthfm_env.segmenters.sam2.multiview.confidence import CERTAIN_LOGIT
from synthfm_env.segmenters.sam2.multiview.dice_threshold import dice_threshold
from synthfm_env.segmenters.sam2.multiview.focus import MultiViewFocus, Proposal
from synthfm_env.segmenters.sam2.multiview.scout import scout
from synthfm_env.segmenters.sam2.multiview.view import MultiView, States
from synthfm_env.segmenters.stopwatch import Stopwatch
from synthfm_env.segmenters.volume_network.resampling import carry_over
from synthfm_env.segmenters.volume_network.session import Answer as NetworkAnswer
from synthfm_env.segmenters.volume_network.session import VolumeNetworkSession

# A certain network outvotes certain views. Chosen on real cases: 1 and 1.5 gave lower Dice.
_NETWORK_WEIGHT = 2.0
_BEYOND = -4.0  # logit of the volume network outside its crop


class MultiViewSession(Session):
    """Segments one structure with SAM 2, in a crop that follows the structure's size.

    A prompt is answered in four steps:

    1. The volume network answers it; its first mask gives the crop in which SAM 2 starts.
    2. ``MultiView.track`` propagates it through each stack of the crop: three planes of a volume, or eight orientations
       of an image or thin stack.
    3. The logits of both are averaged, which makes an ensemble; those of the network count twice. On an image the mask
       after few clicks contains voxels of lower logits too (see ``dice_threshold``).
    4. ``MultiViewFocus`` proposes another crop if the mask does not fit this one; steps 2 and 3 run again there, with
       all prompts.

    Without the volume network, SAM 2 starts in an overview of the whole image, or with a first click on a single slice
    in the crop that ``scout`` finds.
    """

    def __init__(
        self,
        open_view: Callable[[Crop, bool], MultiView],
        shape: Shape,
        spacing: tuple[float, float, float],
        encoding: Stopwatch,
        *,
        zoom: bool,
        network: VolumeNetworkSession | None,
    ) -> None:
        """Prepare the overview; slices are encoded at the first prompt.

        Args:
            open_view: makes a view of a crop, with all slices or as an overview.
            shape: (D, H, W) of the image.
            spacing: (z, y, x) in mm.
            encoding: runs while slices are encoded.
            zoom: whether the crop follows the structure; without it every prompt is answered on the whole image.
            network: a session of the volume network on the same image, or None for SAM 2 alone.
        """
        self._open_view, self._shape, self._spacing, self._encoding = open_view, shape, spacing, encoding
        self._zoom, self._network = zoom, network
        self._focus = MultiViewFocus(shape)
        self._overview = open_view(whole_crop(shape), zoom)
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

        The volume network does not see a box: it is left out until the next prompt, and starts from SAM 2's mask then.
        """
        self._check_open()
        prompt = Prompt.of(clicks, box, mask)
        prompt.check(self._shape)
        started, encoded = time.perf_counter(), self._encoding.seconds
        # Step 1.
        network = self._network_answer(prompt)
        try:
            # Steps 2 and 3 on the present crop, then step 4.
            answer = self._next_answer(prompt, network)
            if self._zoom and not self._is_scouted(prompt):
                answer = self._refocused(answer)
        except BaseException:
            self._take_back(network)
            raise
        # Append to the history; free what an undo can compute again.
        if self._history and answer.view is not self._history[-1].view:
            self._history[-1].view.drop_features()
        self._history.append(answer)
        native, preview = answer.on_image_grid(self._shape)
        encode = self._encoding.seconds - encoded
        return Prediction(native, preview, Seconds(encode, time.perf_counter() - started - encode))

    def _network_answer(self, prompt: Prompt) -> NetworkAnswer | None:
        """Return the volume network's answer to a prompt, or None as long as only a box tells the structure.

        The network sees no box, so it starts from SAM 2's mask at the first prompt after one.
        """
        if self._network is None:
            return None
        known = self._network.answer
        if known is None and prompt.box is not None:
            return None
        if not prompt.clicks and prompt.mask is None:
            return known
        mask = prompt.mask
        if known is None and mask is None and self._history:
            mask = self._history[-1].mask(self._shape)
        return self._network.extend(Prompt(prompt.clicks, None, mask))

    def _take_back(self, network: NetworkAnswer | None) -> None:
        """Make the volume network forget an answer that the history does not contain."""
        if self._network is not None and network is not (self._history[-1].network if self._history else None):
            self._network.withdraw()

    def _next_answer(self, prompt: Prompt, network: NetworkAnswer | None) -> Answer:
        """Answer a new prompt on the present crop."""
        if self._history:
            now = self._history[-1]
            return self._answer(now.view, now.view.track(now.states, (prompt,)), (*now.prompts, prompt), network)
        if self._is_scouted(prompt):
            view, states = scout(
                prompt.clicks[0], self._shape, self._spacing, lambda crop: self._open_view(crop, False)
            )
        else:
            view = self._first_view(prompt, network)
            states = view.track(view.start, (prompt,))
        return self._answer(view, states, (prompt,), network)

    def _first_view(self, prompt: Prompt, network: NetworkAnswer | None) -> MultiView:
        """Return a view of the crop around the volume network's mask, or the overview."""
        if self._zoom and network is not None:
            positive = [click for click in prompt.clicks if click.positive]
            extent = covered_extent(network.crop, (network.logits > 0).numpy(), positive)
            if extent is not None:
                return self._open_view(self._focus.policy.fitted(extent, self._shape), False)
        return self._overview

    def _is_scouted(self, prompt: Prompt) -> bool:
        """Return True for a lone positive click that comes first, on a single slice, without the volume network."""
        lone = len(prompt.clicks) == 1 and prompt.box is None and prompt.mask is None
        searches = self._zoom and self._network is None and self._shape[0] == 1
        return searches and not self._history and lone and prompt.clicks[0].positive

    def _refocused(self, answer: Answer) -> Answer:
        """Answer all prompts again on proposed crops, and return the last answer that was accepted."""
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
        view = self._open_view(proposal.crop, False)
        candidate = self._answer(view, view.track(view.start, answer.prompts), answer.prompts, answer.network)
        return candidate if proposal.accepts(candidate) else None

    def _answer(
        self, view: MultiView, states: States, prompts: tuple[Prompt, ...], network: NetworkAnswer | None
    ) -> Answer:
        """Average the logits of the views and the weighted ones of the volume network, and choose their threshold."""
        logits = view.logits(states).mean(0)
        if network is not None:
            depth, height, width = logits.shape
            added = carry_over(network.logits, network.crop, view.crop, (depth, height, width), _BEYOND)
            logits += _NETWORK_WEIGHT * added.clamp(-CERTAIN_LOGIT, CERTAIN_LOGIT)
            logits /= 1 + _NETWORK_WEIGHT
        return Answer(prompts, view, states, network, logits, self._threshold(logits, prompts))

    def _threshold(self, logits: Tensor, prompts: tuple[Prompt, ...]) -> float:
        """Return the logit above which voxels belong to the mask.

        It is 0 in volumes, where a lower one gained on synthetic cases and lost on real ones, and if a box or a mask
        shows how far the structure reaches.
        """
        shown = any(prompt.box is not None or prompt.mask is not None for prompt in prompts)
        if shown or self._shape[0] > 1:
            return 0.0
        return dice_threshold(logits, sum(len(prompt.clicks) for prompt in prompts))

    def undo(self) -> Prediction:
        """Take back the newest prompt; see ``Session.undo``."""
        self._check_open()
        if not self._history:
            raise InputError("session.undo(): there is no click to undo")
        started = time.perf_counter()
        undone = self._history.pop()
        self._take_back(undone.network)
        if not self._history:
            return Prediction(np.zeros(self._shape, dtype=bool), None, Seconds(0.0, 0.0))
        native, preview = self._history[-1].on_image_grid(self._shape)
        return Prediction(native, preview, Seconds(0.0, time.perf_counter() - started))

    def reset(self) -> None:
        """Remove all prompts and keep the encoded overview."""
        self._check_open()
        self._history = []
        if self._network is not None:
            self._network.reset()

    def close(self) -> None:
        """Free the views and all masks. May be called twice."""
        self._closed = True
        self._overview.drop_features()
        self._history = []
        if self._network is not None:
            self._network.close()

    def _check_open(self) -> None:
        if self._closed:
            raise InputError("this session is closed; open another with segmenter.start(image, spacing)")
