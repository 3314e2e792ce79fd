"""Decides which slices are tracked after a prompt, and in which order.

Stock SAM 2 tracks every slice after every prompt: from the lowest conditioning slice up to the last slice, then down to
the first (``full_sweeps``). Fast mode does the same after a first prompt, both directions in one batch. After a later
click most masks hardly change, so it tracks only around the click and where a cheap preview changed. A stack of 16
slices, conditioned on slice 5, with a new click on slice 9 (t: tracked, i: interpolated)::

    slice                0  1  2  3  4  5  6  7  8  9 10 11 12 13 14 15
    conditioning                        *           *
    1. preview                 p                 p        p        p
    2. changed > 5 %                                      !
    3. upward sweep                        .  .  .     t  t  t  t  t  .
    4. downward sweep    .  .  .  .  .
    5. interpolation     i  i     i  i     i  i                       i

1. ``preview.preview_slices`` decodes every third tracked slice again, in large batches, from the existing memories.
2. Slices whose preview changed by more than 5 % are tracked again, and so are the slices between them and the last
   unchanged preview before them.
3. The upward sweep tracks the click's neighbour and the changed slices one after the other, since each slice attends to
   the six before it. After two consecutive previewed slices whose masks equal their previews (here 11 and 14) it skips
   to the next changed slice, if there is one.
4. The downward sweep attends to slices of the upward one, so it runs six slices behind it. Slices of both sweeps go
   through the model in one batch. Here nothing changed below the click, so the downward sweep is skipped.
5. ``preview.interpolate_unvisited`` adds to the logits of every other slice the change of its nearest visited slices.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from synthfm_env.segmenters.sam2.slice_memory import (
    SliceFeatures,
    SliceMemory,
    SliceStep,
    StackState,
    TrackSlices,
    mask_change,
)

STOP_AFTER_EMPTY = 16  # end a lone sweep after so many slices without the object, the reach of object pointers
RESTART_IF_CHANGED = 0.05  # track a slice again if its preview changed by more than this (1 - IoU)
STOP_AFTER_AGREEING = 2  # stop after so many consecutive previewed slices ...
AGREEMENT = 0.01  # ... that differ from their preview by at most this (1 - IoU)
_BATCH = 16  # slices in a batch


@dataclass(slots=True)
class Sweep:
    """Slices of one stack that are tracked one after the other, since each attends to those before it.

    Attributes:
        state: of the stack; read and written.
        features: of the stack's slices.
        order: the slices, without conditioning ones.
        reverse: whether the order goes downwards.
        leader: a sweep that must be ``lag`` slices ahead of this one, or finished.
        lag: in slices.
        stop_after_empty: end after so many slices without the object if no slice ahead shows it; None never ends early.
        previews: memories from ``preview_slices``, by slice; unchanged slices are skipped. None tracks every slice.
        before: memories before the newest prompt.
        done: number of slices of ``order`` that were tracked or skipped.
        visited: the slices that were tracked.
    """

    state: StackState
    features: SliceFeatures
    order: Sequence[int]
    reverse: bool
    leader: "Sweep | None" = None
    lag: int = 0
    stop_after_empty: int | None = None
    previews: dict[int, SliceMemory] | None = None
    before: dict[int, SliceMemory] = field(default_factory=dict)
    done: int = 0
    visited: set[int] = field(default_factory=set)
    _empty: int = 0
    _agreeing: int = 0

    def __post_init__(self) -> None:
        """Skip to the first slice that must be tracked."""
        self._skip_unchanged()

    @property
    def step(self) -> SliceStep:
        """The slice to track next."""
        return SliceStep(self.state, self.features, self.order[self.done], self.reverse)

    @property
    def finished(self) -> bool:
        """Whether no slice is left."""
        return self.done >= len(self.order)

    @property
    def ready(self) -> bool:
        """Whether the next slice can be tracked now."""
        ahead = self.leader is None or self.leader.finished or self.leader.done >= self.done + self.lag
        return ahead and not self.finished

    def accept(self, memory: SliceMemory) -> None:
        """Store the memory of the slice just tracked and advance to the next that must be tracked."""
        z = self.order[self.done]
        self.state.tracked[z] = memory
        self.visited.add(z)
        self.done += 1
        self._empty = 0 if memory.shows_object else self._empty + 1
        if self._object_ended(z):
            for left in self.order[self.done :]:
                self.state.tracked.pop(left, None)
            self.done = len(self.order)
        elif self.previews is not None and z in self.previews:
            self._compare(memory, self.previews[z])

    def _object_ended(self, z: int) -> bool:
        """Return True after enough empty slices, unless a slice ahead was prompted or showed the object before."""
        if self.stop_after_empty is None or self._empty < self.stop_after_empty or self._conditioned_ahead(z):
            return False
        ahead = (self.state.tracked.get(left) for left in self.order[self.done :])
        return not any(memory is not None and memory.shows_object for memory in ahead)

    def _compare(self, memory: SliceMemory, preview: SliceMemory) -> None:
        """Skip unchanged slices after enough masks that equal their previews. Two empty masks do not count."""
        if memory.shows_object or preview.shows_object:
            self._agreeing = self._agreeing + 1 if mask_change(memory, preview) <= AGREEMENT else 0
        if self._agreeing >= STOP_AFTER_AGREEING:
            self._skip_unchanged()

    def _skip_unchanged(self) -> None:
        """Skip to the next slice to track: the newest prompt's neighbour, or the slices before a changed preview."""
        if self.previews is None:
            return
        self._agreeing = self._empty = 0
        beside_prompt = self.state.newest[0] + (-1 if self.reverse else 1)
        restart = self.done
        for i in range(self.done, len(self.order)):
            z = self.order[i]
            if z == beside_prompt:
                self.done = i
                return
            if z in self.previews:
                if mask_change(self.previews[z], self.before.get(z)) > RESTART_IF_CHANGED:
                    # The slices since the last unchanged preview may have changed as well.
                    self.done = restart
                    return
                restart = i + 1
        self.done = len(self.order)

    def _conditioned_ahead(self, z: int) -> bool:
        return any((other < z) if self.reverse else (other > z) for other in self.state.conditioning)


def propagate(sweeps: Iterable[Sweep], track: TrackSlices) -> None:
    """Run all sweeps to their ends; slices that are ready go through ``track`` in one batch."""
    left = [sweep for sweep in sweeps if not sweep.finished]
    while left:
        ready = [sweep for sweep in left if sweep.ready][:_BATCH]
        for sweep, memory in zip(ready, track([sweep.step for sweep in ready]), strict=True):
            sweep.accept(memory)
        left = [sweep for sweep in left if not sweep.finished]


def full_sweeps(state: StackState, features: SliceFeatures) -> list[Sweep]:
    """Return the sweeps of stock SAM 2: from the lowest conditioning slice to the last, then down to the first."""
    start, depth = min(state.conditioning), features.depth
    up = Sweep(state, features, _unconditioned(state, range(start + 1, depth)), reverse=False)
    down = Sweep(state, features, range(start - 1, -1, -1), reverse=True, leader=up, lag=depth)
    return [up, down]


def pruned_sweeps(
    state: StackState,
    features: SliceFeatures,
    before: StackState,
    previews: dict[int, SliceMemory] | None,
    lag: int,
    stop_after_empty: int = STOP_AFTER_EMPTY,
) -> list[Sweep]:
    """Return the sweeps of fast mode: both directions together, without slices that hardly change.

    Args:
        state: with the slices of the new prompt among ``conditioning``.
        features: of the stack's slices.
        before: the state without the new prompt.
        previews: see ``Sweep``.
        lag: number of slices that the upward sweep is ahead: as many memories as a slice attends to.
        stop_after_empty: see ``Sweep``.
    """
    start, old = min(state.conditioning), before.memories()
    order = _unconditioned(state, range(start + 1, features.depth))
    up = Sweep(state, features, order, False, stop_after_empty=stop_after_empty, previews=previews, before=old)
    down = Sweep(
        state, features, range(start - 1, -1, -1), True,
        leader=up, lag=lag, stop_after_empty=stop_after_empty, previews=previews, before=old,
    )  # fmt: skip
    return [up, down]


def _unconditioned(state: StackState, slices: Iterable[int]) -> list[int]:
    return [z for z in slices if z not in state.conditioning]
