"""Slices far from the newest click: their masks follow it, but seldom by much."""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import NamedTuple

import torch

from synthfm_env.segmenters.sam2.chains import Chain, Slot
from synthfm_env.segmenters.sam2.features import Features
from synthfm_env.segmenters.sam2.state import Output, State, change

# A run of slices is tracked anew where one of those looked at changed by more than this share of its mask.
_CHANGE = 0.05
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
        """Every other slice, the others after the next click; a lone slice always."""
        odd = len(self.state.clicks) % 2
        return [z for z in self.slices if z % 2 == odd] or self.slices


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
    """Bring far slices up to date: every other one is decoded again, in large batches, from the memories as they are.

    Slices between take over the mean change of their two neighbours' logits.

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
    looked_at = set(run.looked_at)
    for z in run.slices:
        if z in looked_at:
            continue
        changes = [
            now["pred_masks"].clamp(-_LIMIT, _LIMIT) - run.before[near]["pred_masks"].clamp(-_LIMIT, _LIMIT)
            for near in (z - 1, z + 1)
            if near in run.before and (now := run.state.output(near)) is not None
        ]
        if changes:
            old = run.state.tracked[z]
            run.state.tracked[z] = old | {"pred_masks": old["pred_masks"] + torch.stack(changes).mean(0)}
