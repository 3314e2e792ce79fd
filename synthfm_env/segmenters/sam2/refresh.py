"""Slices far from the newest click: their masks follow it, but seldom by much."""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from synthfm_env.segmenters.sam2.chains import Chain, Slot
from synthfm_env.segmenters.sam2.features import Features
from synthfm_env.segmenters.sam2.state import Output, State, change

# A run of slices is tracked anew where one of those looked at changed by more than this share of its mask.
_CHANGE = 0.05
_EVERY = 3  # one of so many slices is looked at
_BATCH = 16  # slices looked at at once
_LIMIT = 32.0  # logits beyond say no more; -1024 stands for a slice without the object


class Run(NamedTuple):
    """Neighbouring slices of one session that were tracked before the newest click and not since."""

    state: State
    features: Features
    before: dict[int, Output]
    slices: list[int]
    reverse: bool

    @property
    def looked_at(self) -> list[int]:
        """Every third slice, others after the next click."""
        turn = len(self.state.clicks) % _EVERY
        return [z for z in self.slices if z % _EVERY == turn] or self.slices[:1]


def runs_left(state: State, features: Features, before: State) -> list[Run]:
    """Return the runs of slices that have been tracked, but not since the newest click."""
    start, old = min(state.conditioning), before.outputs()
    left = sorted(z for z, output in state.tracked.items() if output is old.get(z))
    # Neighbours share what z - index gives; a clicked slice or one tracked since parts a run.
    return [
        Run(state, features, old, [z for _, z in run], reverse)
        for (reverse, _), run in groupby(enumerate(left), key=lambda item: (item[1] < start, item[1] - item[0]))
    ]


def refresh(runs: Sequence[Run], look: Callable[[Sequence[Slot]], list[Output]]) -> list[Chain]:
    """Bring far slices up to date: one of three is decoded again, in large batches, from the memories as they are.

    Slices between take over the change of the logits, interpolated between those around them.

    Args:
        runs: of any sessions; their states are changed.
        look: decodes slices and keeps their memories.

    Returns:
        Chains of the runs that changed so much that they must be tracked anew.
    """
    slots = [Slot(run.state, run.features, z, run.reverse) for run in runs for z in run.looked_at]
    for first in range(0, len(slots), _BATCH):
        batch = slots[first : first + _BATCH]
        for slot, output in zip(batch, look(batch), strict=True):
            slot.state.tracked[slot.z] = output
    anew = []
    for run in runs:
        if max(change(run.state.tracked[z], run.before.get(z)) for z in run.looked_at) > _CHANGE:
            order = run.slices[::-1] if run.reverse else run.slices
            anew.append(Chain(run.state, run.features, order, run.reverse))
        else:
            _interpolate(run)
    return anew


def _interpolate(run: Run) -> None:
    """Change the logits of slices not looked at as those of the nearest others changed, by distance."""
    looked_at = set(run.looked_at)
    known = [run.slices[0] - 1, *sorted(looked_at), run.slices[-1] + 1]
    changes = {z: _difference(run, z) for z in known}
    for z in run.slices:
        if z in looked_at:
            continue
        low = max(near for near in known if near < z)
        high = min(near for near in known if near > z)
        ends = [
            (change, weight)
            for change, weight in ((changes[low], high - z), (changes[high], z - low))
            if change is not None
        ]
        if ends:
            total = sum(weight for _, weight in ends)
            difference = sum((change * (weight / total) for change, weight in ends), torch.zeros(()))
            old = run.state.tracked[z]
            run.state.tracked[z] = old | {"pred_masks": old["pred_masks"] + difference}


def _difference(run: Run, z: int) -> Tensor | None:
    """Return how a slice's logits changed with the click; None where there is no such slice, or no mask of it."""
    now, before = run.state.output(z), run.before.get(z)
    if now is None or before is None:
        return None
    return now["pred_masks"].clamp(-_LIMIT, _LIMIT) - before["pred_masks"].clamp(-_LIMIT, _LIMIT)
