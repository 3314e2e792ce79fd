"""Slices far from the newest click: their masks follow it, but often one look tells how."""

from bisect import bisect
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from synthfm_env.segmenters.sam2.slice_memory import Output, State
from synthfm_env.segmenters.sam2.tracking.feature_cache import Features
from synthfm_env.segmenters.sam2.tracking.propagation import Slot

_EVERY = 3  # one of so many slices is looked at
_BATCH = 16  # slices looked at at once
_LIMIT = 32.0  # logits beyond say no more; -1024 stands for a slice without the object


def look(
    given: Sequence[tuple[State, Features, State]], step: Callable[[Sequence[Slot]], list[Output]]
) -> list[dict[int, Output] | None]:
    """Decode one of three slices again after a click, in large batches, from the memories as they are.

    Other slices are looked at after the next click.

    Args:
        given: for each session its new state, which is changed, its features, and the state before.
        step: decodes slices and keeps their memories.

    Returns:
        What was looked at in each session, by slice. None for a session without a prompt before, with several new
        ones, or with one that conditioned several slices: the memories that it has tell too little.
    """
    found: list[dict[int, Output] | None] = []
    slots: list[tuple[int, Slot]] = []
    for i, (state, features, before) in enumerate(given):
        later = before.prompts > 0 and state.prompts == before.prompts + 1 and len(state.newest) == 1
        found.append({} if later else None)
        if later:
            start = min(state.conditioning)
            slots += [(i, Slot(state, features, z, z < start)) for z in _third(state)]
    for first in range(0, len(slots), _BATCH):
        batch = slots[first : first + _BATCH]
        for (i, slot), output in zip(batch, step([slot for _, slot in batch]), strict=True):
            looked = found[i]
            assert looked is not None
            looked[slot.z] = output
    for (state, _, _), looked in zip(given, found, strict=True):
        state.tracked.update(looked or {})
    return found


def _third(state: State) -> list[int]:
    """Return the slices whose turn it is; all, where it is none's."""
    turn, tracked = len(state.clicks) % _EVERY, sorted(state.tracked)
    return [z for z in tracked if z % _EVERY == turn] or tracked


def fill_in(state: State, before: State) -> None:
    """Change the logits of slices that were left out as those of the nearest others changed, by distance.

    A clicked slice tells nothing of its neighbours: it changed by its own clicks.

    Args:
        state: is changed; slices tracked or looked at since the newest click have new outputs.
        before: the state before the click.
    """
    now, old = dict(state.tracked), before.outputs()
    known = sorted(z for z in now if z in old and now[z] is not old[z])
    changes = {z: _moved(old[z], now[z]) for z in known}
    for z in [z for z in now if known and now[z] is old.get(z)]:
        i = bisect(known, z)
        low, high = known[max(0, i - 1)], known[min(i, len(known) - 1)]
        share = (z - low) / (high - low) if low < high else 0.0
        moved = now[z]["pred_masks"] + torch.lerp(changes[low], changes[high], share)
        state.tracked[z] = now[z] | {"pred_masks": moved}


def _moved(old: Output, new: Output) -> Tensor:
    """Return how logits changed where the object is or was.

    Elsewhere they may jump without meaning anything, from -1024 to -1 where the object appears at another place, and a
    slice in which -1 stood already would be flooded by that.
    """
    before, after = _bounded(old), _bounded(new)
    return torch.where((before > 0) | (after > 0), after - before, 0)


def _bounded(output: Output) -> Tensor:
    logits: Tensor = output["pred_masks"]
    return logits.clamp(-_LIMIT, _LIMIT)
