"""Previews slices after a click: decodes every third slice from existing memories, and interpolates the others.

``propagation`` explains the algorithm that uses both functions.
"""

from bisect import bisect
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from synthfm_env.segmenters.sam2.slice_memory import (
    MAX_LOGIT,
    SliceFeatures,
    SliceMemory,
    SliceStep,
    StackState,
    TrackSlices,
)

PREVIEW_EVERY = 3  # every third slice is previewed after a click
_BATCH = 16  # slices in a batch


def preview_slices(
    updates: Sequence[tuple[StackState, SliceFeatures, StackState]], decode: TrackSlices
) -> list[dict[int, SliceMemory] | None]:
    """Decode every third slice of each stack again after a click, in large batches.

    The offset of the third depends on the number of clicks, so after three clicks every slice has been previewed.

    Args:
        updates: for each stack its new state, which is changed, its features, and the state before the click.
        decode: decodes slices and keeps their memory features.

    Returns:
        The previews of each stack, by slice. None for a stack whose existing memories predict the new masks too badly:
        one without an earlier prompt, with several new prompts, or with a new prompt on several slices.
    """
    previews: list[dict[int, SliceMemory] | None] = []
    steps: list[tuple[int, SliceStep]] = []
    # Collect the slices of all stacks, so that they fill batches together.
    for i, (state, features, before) in enumerate(updates):
        one_more = before.prompts > 0 and state.prompts == before.prompts + 1 and len(state.newest) == 1
        previews.append({} if one_more else None)
        if one_more:
            start = min(state.conditioning)
            steps += [(i, SliceStep(state, features, z, z < start)) for z in _every_third(state)]
    # Decode them from the existing memories, not from each other.
    for first in range(0, len(steps), _BATCH):
        batch = steps[first : first + _BATCH]
        for (i, step), memory in zip(batch, decode([step for _, step in batch]), strict=True):
            of_stack = previews[i]
            assert of_stack is not None
            of_stack[step.z] = memory
    for (state, _, _), of_stack in zip(updates, previews, strict=True):
        state.tracked.update(of_stack or {})
    return previews


def _every_third(state: StackState) -> list[int]:
    """Return every third tracked slice, or all if that third is empty."""
    remainder, tracked = len(state.clicks) % PREVIEW_EVERY, sorted(state.tracked)
    return [z for z in tracked if z % PREVIEW_EVERY == remainder] or tracked


def interpolate_unvisited(state: StackState, before: StackState, visited: set[int]) -> None:
    """Add to the logits of every unvisited slice the change of its nearest visited slices, weighted by distance.

    Changes of conditioning slices are not used, because they come from the clicks on these slices.

    Args:
        state: the state after the click, which is changed.
        before: the state before the click.
        visited: slices that were previewed or tracked since the click.
    """
    old = before.memories()
    known = sorted(z for z in visited if z in state.tracked and z in old)
    if not known:
        return
    changes = {z: _logit_change(old[z], state.tracked[z]) for z in known}
    for z in [z for z in state.tracked if z not in visited]:
        # Interpolate between two visited slices; beyond the outermost one take its change.
        i = bisect(known, z)
        low, high = known[max(0, i - 1)], known[min(i, len(known) - 1)]
        share = (z - low) / (high - low) if low < high else 0.0
        memory = state.tracked[z]
        logits = memory.logits + torch.lerp(changes[low], changes[high], share)
        state.tracked[z] = replace(memory, logits=logits)


def _logit_change(old: SliceMemory, new: SliceMemory) -> Tensor:
    """Return the change of logits where the object is or was, 0 elsewhere.

    Elsewhere logits may jump from -1024 to -1 if the object appears at another place of the slice. Added to logits of
    -1 in another slice, that jump would fill it with object.
    """
    before, after = old.logits.clamp(-MAX_LOGIT, MAX_LOGIT), new.logits.clamp(-MAX_LOGIT, MAX_LOGIT)
    return torch.where((before > 0) | (after > 0), after - before, 0)
