"""One structure in one volume: clicks in, masks out, every slice tracked from the clicked ones."""

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sam2.modeling.sam2_base import NO_OBJ_SCORE, SAM2Base
from sam2.utils.misc import concat_points
from torch import Tensor

from synthfm_env.errors import InputError, unknown_name
from synthfm_env.geometry import spread_indices
from synthfm_env.prompts import Box, Click, Prompt
from synthfm_env.segmenters.base import Prediction, Seconds, Session
from synthfm_env.segmenters.sam2.fast.memory_attention import Memory
from synthfm_env.segmenters.sam2.slice_memory import State
from synthfm_env.segmenters.sam2.tracking.feature_cache import Features
from synthfm_env.segmenters.sam2.tracking.preview import fill_in, look
from synthfm_env.segmenters.sam2.tracking.propagation import run, sweep, whole
from synthfm_env.segmenters.sam2.tracking.slice_trackers import FastStep, StockStep, keep, track_slice

MASK_SLICES = 8  # slices of a mask that condition, at most
_UPPER_LEFT, _LOWER_RIGHT = 2, 3  # labels of a box's corners, to SAM 2's prompt encoder


class SAM2Session(Session):
    """Clicks on one structure, answered by SAM 2.

    After each click the clicked slice is decoded and becomes conditioning, then the volume is tracked from the
    lowest clicked slice up to the last and down to the first, as ``SAM2VideoPredictor`` does when it is driven with
    ``add_all_frames_to_correct_as_cond=True`` and propagated forward and in reverse after each click. Slices are
    encoded once; stock SAM 2 encodes them again at every propagation.
    """

    def __init__(
        self,
        model: SAM2Base,
        features: Features,
        shape: tuple[int, int, int],
        *,
        fast: bool,
        memory: Memory = "all",
    ) -> None:
        """Take the encoded slices of an image.

        Args:
            model: shared, never changed.
            features: of the image's slices.
            shape: (D, H, W) of the image.
            fast: batch both directions, and leave out slices whose mask would hardly change; see ``chains``.
            memory: which slices a slice remembers, in fast mode; see ``SAM2Segmenter``.

        Raises:
            InputError: another ``memory`` than "all" in exact mode, which is stock SAM 2's, or one that is unknown.
        """
        if memory not in ("all", "nearest", "confident"):
            raise unknown_name("memory policy", memory, ("all", "nearest", "confident"))
        if memory != "all" and not fast:
            raise InputError(f"memory={memory!r} is for mode='fast'; exact mode remembers what stock SAM 2 does: 'all'")
        self._model, self._features, self._shape = model, features, shape
        self._step = FastStep(model, memory) if fast else StockStep(model)
        self._history = [State()]
        self._closed = False

    @property
    def clicks(self) -> tuple[Click, ...]:
        """The clicks in force, oldest first."""
        return self._history[-1].clicks

    def _check_open(self) -> None:
        if self._closed:
            raise InputError("this session is closed; open another with segmenter.start(image, spacing)")

    def add(self, click: Click) -> Prediction:
        """Take one more click; see ``Session.add``."""
        return add_together([self], [Prompt((click,))])[0]

    def prompt(
        self, clicks: Sequence[Click] = (), *, box: Box | None = None, mask: NDArray[np.bool_] | None = None
    ) -> Prediction:
        """Take several prompts at once; see ``Session.prompt`` and ``_condition``."""
        return add_together([self], [Prompt(tuple(clicks), box, mask)])[0]

    def undo(self) -> Prediction:
        """Take back the newest prompt; see ``Session.undo``."""
        self._check_open()
        if len(self._history) == 1:
            raise InputError("session.undo(): there is no click to take back")
        started = time.perf_counter()
        self._history.pop()
        if len(self._history) == 1:
            return Prediction(np.zeros(self._shape, dtype=bool), None, Seconds(0.0, 0.0))
        answer = self._answer(self._history[-1])
        return replace(answer, seconds=Seconds(0.0, time.perf_counter() - started))

    def reset(self) -> None:
        """Forget all clicks, keep the encoded slices."""
        self._check_open()
        del self._history[1:]

    def close(self) -> None:
        """Free the encoded slices and all masks."""
        self._closed = True
        self._history = [State()]
        self._features.clear()

    @property
    def encode_seconds(self) -> float:
        """Seconds spent on encoding so far."""
        return self._features.seconds

    def drop_features(self) -> None:
        """Drop the encoded slices; they are encoded again, to the same, when they are needed."""
        self._features.clear()

    @property
    def prompted(self) -> bool:
        """Whether any prompt is in force."""
        return self._history[-1].prompts > 0

    def logits(self) -> Tensor:
        """Return what ``answer_together`` returned for this session after its newest click."""
        return self._logits(self._history[-1])[:, 0].cpu()

    def _answer(self, state: State) -> Prediction:
        """Make new arrays of a state; masks are not kept, one of a large volume outweighs all that SAM 2 remembers."""
        logits = self._logits(state)
        return Prediction(self._native_mask(logits), logits[:, 0].cpu().numpy(), Seconds(0.0, 0.0))

    def _condition(self, before: State, prompt: Prompt) -> State:
        """Return the state in which every slice that a prompt names is decoded and conditions the others.

        - All clicks on one slice, and the box, are decoded together, with the mask that was there before.
        - A box becomes two corner points, as in SAM 2's training, on its middle slice.
        - A mask is the answer on its slices, as SAM 2 takes mask prompts, and is the mask that was there before for
          clicks and box. Of a mask on many slices ``MASK_SLICES``, spread evenly, condition; the rest is tracked.
        """
        state = before.copy()
        state.prompts += 1
        state.clicks += prompt.clicks
        guesses = {} if prompt.mask is None else self._guesses(prompt.mask)
        points: dict[int, list[tuple[float, float, int]]] = {}
        if prompt.box is not None:
            (z0, y0, x0), (z1, y1, x1) = prompt.box.start, prompt.box.stop
            points[(z0 + z1 - 1) // 2] = [(x0, y0, _UPPER_LEFT), (x1 - 1, y1 - 1, _LOWER_RIGHT)]
        for click in prompt.clicks:
            z, y, x = click.zyx
            points.setdefault(z, []).append((x, y, int(click.positive)))
        for z, guess in guesses.items():
            self._decode(before, state, z, guess=guess)
        for z, placed in points.items():
            self._decode(before, state, z, placed=placed)
        state.newest = tuple({*guesses, *points})
        return state

    def _guesses(self, mask: NDArray[np.bool_]) -> dict[int, Tensor]:
        """Return some slices of a mask as SAM 2 takes them: float32 (1, 1, S, S), by slice."""
        filled = np.flatnonzero(mask.any((1, 2)))
        size, device = self._model.image_size, self._model.device
        guesses = {}
        for z in filled[spread_indices(len(filled), MASK_SLICES)].tolist():
            whole = torch.from_numpy(np.array(mask[z], dtype=np.float32))[None, None].to(device)
            square = F.interpolate(whole, (size, size), mode="bilinear", align_corners=False, antialias=True)
            guesses[z] = (square >= 0.5).float()
        return guesses

    def _decode(
        self,
        before: State,
        state: State,
        z: int,
        *,
        placed: Sequence[tuple[float, float, int]] = (),
        guess: Tensor | None = None,
    ) -> None:
        """Decode one slice with its points or its mask, remember it, and let it condition ``state``.

        Args:
            before: the state before the whole prompt.
            state: is changed.
            z: the slice.
            placed: new points as (x, y, label), in pixels of the image.
            guess: float32 (1, 1, S, S).
        """
        size, device = self._model.image_size, self._model.device
        if placed:
            height, width = self._shape[1:]
            point = torch.tensor([[[x / width * size, y / height * size] for x, y, _ in placed]], device=device)
            label = torch.tensor([[label for _, _, label in placed]], dtype=torch.int32, device=device)
            state.points[z] = concat_points(state.points.get(z), point, label)
        if guess is not None:
            state.points.pop(z, None)  # as stock SAM 2: a mask replaces the points of its slice
        previous = state.output(z) if guess is None else None
        output = track_slice(
            self._model, self._features, before, z,
            # A lone slice stays an image: each prompt sees the last mask but no memory. Stock SAM 2 divides by zero
            # when a video of one frame meets its own memory.
            initial=not before.prompts or self._shape[0] == 1,
            # How the slice was tracked last: down from the lowest clicked one, or up.
            reverse=bool(before.conditioning) and z <= min(before.conditioning) > 0,
            prompted=True,
            points=state.points[z] if placed else None,
            mask=guess,
            logits=None if previous is None else previous["pred_masks"].clamp(-32.0, 32.0),
        )  # fmt: skip
        memory, position = self._model._encode_new_memory(
            current_vision_feats=self._features.levels(z)[-1:],
            feat_sizes=self._features.sizes[-1:],
            pred_masks_high_res=F.interpolate(
                output["pred_masks"], size=(size, size), mode="bilinear", align_corners=False
            ),
            object_score_logits=output["object_score_logits"],
            is_mask_from_pts=guess is None,
        )
        state.conditioning[z] = keep(self._features, output, memory, position)
        state.tracked.pop(z, None)

    def _logits(self, state: State) -> Tensor:
        outputs = state.tracked | state.conditioning
        absent = torch.full_like(next(iter(outputs.values()))["pred_masks"], NO_OBJ_SCORE)
        slices = [outputs[z]["pred_masks"] if z in outputs else absent for z in range(self._shape[0])]
        return torch.cat(slices).float()

    def _native_mask(self, logits: Tensor) -> NDArray[np.bool_]:
        """Bring (D, 1, h, w) logits to the image's grid and threshold them, some slices at a time."""
        mask = np.empty(self._shape, dtype=bool)
        for z in range(0, self._shape[0], 16):
            full = F.interpolate(logits[z : z + 16], size=self._shape[1:], mode="bilinear", align_corners=False)
            mask[z : z + 16] = (full[:, 0] > 0).cpu().numpy()
        return mask


@torch.inference_mode()
def add_together(sessions: Sequence[SAM2Session], prompts: Sequence[Prompt]) -> list[Prediction]:
    """Give each session one more prompt; in fast mode slices of all sessions go through the model in batches.

    Args:
        sessions: of one segmenter, none twice.
        prompts: one for each session.

    Returns:
        One prediction a session. Exact mode gives what single ``add`` gives bit for bit; in fast mode logits differ by
        the rounding of larger matrix products.

    Raises:
        InputError: as ``Session.prompt``; every session is then as it was.
    """
    for session, prompt in zip(sessions, prompts, strict=True):
        session._check_open()
        prompt.check(session._shape)
    if not sessions:
        return []
    started, encoded = time.perf_counter(), [session._features.seconds for session in sessions]
    states = [
        session._condition(session._history[-1], prompt) for session, prompt in zip(sessions, prompts, strict=True)
    ]
    _propagate(sessions, states)
    encoded = [session._features.seconds - before for session, before in zip(sessions, encoded, strict=True)]
    each = (time.perf_counter() - started - sum(encoded)) / len(sessions)
    answers = []
    for session, state, encode in zip(sessions, states, encoded, strict=True):
        began = time.perf_counter()
        session._history.append(state)
        answer = session._answer(state)
        answers.append(replace(answer, seconds=Seconds(encode, each + time.perf_counter() - began)))
    return answers


@torch.inference_mode()
def answer_together(sessions: Sequence[SAM2Session], prompts: Sequence[Sequence[Prompt]]) -> None:
    """Give each session its prompts in their order and track each volume once after the last; make no masks.

    ``SAM2Session.logits`` has the answers. One ``undo`` takes back all prompts of one call, of a session without any
    too.

    Args:
        sessions: of one segmenter, none twice.
        prompts: any number for each session.

    Raises:
        InputError: as ``Session.prompt``; every session is then as it was.
    """
    states = []
    for session, its in zip(sessions, prompts, strict=True):
        session._check_open()
        state = session._history[-1]
        for prompt in its:
            prompt.check(session._shape)
            state = session._condition(state, prompt)
        states.append(state)
    asked = [i for i, its in enumerate(prompts) if its]
    _propagate([sessions[i] for i in asked], [states[i] for i in asked])
    for session, state in zip(sessions, states, strict=True):
        session._history.append(state)


def _propagate(sessions: Sequence[SAM2Session], states: list[State]) -> None:
    """Track what follows from the prompts of each state that its session has not seen."""
    if not sessions:
        return
    step = sessions[0]._step
    given = [(state, session._features, session._history[-1]) for session, state in zip(sessions, states, strict=True)]
    if isinstance(step, StockStep):
        run([chain for state, features, _ in given for chain in whole(state, features)], step)
        return
    with step.click():
        looked = look(given, step.again)
        sweeps = [sweep(*each, seen, step.lag) for each, seen in zip(given, looked, strict=True)]
        run([chain for chains in sweeps for chain in chains], step)
        for (state, _, before), seen in zip(given, looked, strict=True):
            if seen is not None:
                fill_in(state, before)
