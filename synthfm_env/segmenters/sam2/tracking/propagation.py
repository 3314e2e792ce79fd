"""The order in which slices are tracked after a click."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from synthfm_env.segmenters.sam2.slice_memory import Output, State, change
from synthfm_env.segmenters.sam2.tracking.feature_cache import Features

# Fast mode leaves a direction once the object has been gone for so many slices: SAM 2's pointers reach fifteen back.
_PATIENCE = 16
# After a later click it tracks on from a slice that looked, from afar, changed by more than this share of its mask,
_CHANGE = 0.05
# until so many in a row that were looked at come out as they looked, but for this share.
_AGREED = 2
_ALIKE = 0.01
_BATCH = 16  # slices tracked at once


class Slot(NamedTuple):
    """A slice to be tracked, upwards or in reverse, with the memories of its session's state."""

    state: State
    features: Features
    z: int
    reverse: bool


Step = Callable[[Sequence[Slot]], list[Output]]


@dataclass(slots=True)
class Chain:
    """Slices of one session that are tracked one after the other, since each reads the memory of those before.

    Attributes:
        state: read and written.
        features: of the session's slices.
        order: the slices, without clicked ones.
        reverse: tracked downwards.
        after: a chain that must be ``lag`` slices ahead of this one, or at its end.
        ends: the rest is left out once the object has been gone for long.
        looked: slices that were looked at from afar since the newest click, see ``refresh``: where they tell enough,
            none is tracked. None: every slice is tracked.
        before: outputs before the newest click.
        done: slices tracked or left out so far.
    """

    state: State
    features: Features
    order: Sequence[int]
    reverse: bool
    after: "Chain | None" = None
    lag: int = 0
    ends: bool = False
    looked: dict[int, Output] | None = None
    before: dict[int, Output] = field(default_factory=dict)
    done: int = 0
    _gone: int = 0
    _agreed: int = 0

    def __post_init__(self) -> None:
        """Go to the first slice that must be tracked."""
        self._leave_out()

    @property
    def slot(self) -> Slot:
        """The slice to track next."""
        return Slot(self.state, self.features, self.order[self.done], self.reverse)

    @property
    def finished(self) -> bool:
        """Whether no slice is left."""
        return self.done >= len(self.order)

    @property
    def ready(self) -> bool:
        """Whether the next slice can be tracked now."""
        ahead = self.after is None or self.after.finished or self.after.done >= self.done + self.lag
        return ahead and not self.finished

    def take(self, output: Output) -> None:
        """Keep a slice's output and go on to the next that must be tracked."""
        z = self.order[self.done]
        self.state.tracked[z] = output
        self.done += 1
        there = bool((output["pred_masks"] > 0).any())
        self._gone = 0 if there else self._gone + 1
        if self.ends and self._gone >= _PATIENCE and not self._clicked_ahead(z):
            for rest in self.order[self.done :]:
                self.state.tracked.pop(rest, None)
            self.done = len(self.order)
        elif self.looked is not None and z in self.looked:
            self._compare(output, self.looked[z], there)

    def _compare(self, output: Output, looked: Output, there: bool) -> None:
        """Stop tracking after some slices that came out as they looked; empty ones tell nothing."""
        if there or bool((looked["pred_masks"] > 0).any()):
            self._agreed = self._agreed + 1 if change(output, looked) <= _ALIKE else 0
        if self._agreed >= _AGREED:
            self._leave_out()

    def _leave_out(self) -> None:
        """Leave out slices up to the newest click, or up to one that looked changed and those before it."""
        if self.looked is None:
            return
        self._agreed = self._gone = 0
        beside = self.state.newest[0] + (-1 if self.reverse else 1)
        first = self.done
        for i in range(self.done, len(self.order)):
            z = self.order[i]
            if z == beside:
                self.done = i
                return
            if z in self.looked and change(self.looked[z], self.before.get(z)) > _CHANGE:
                self.done = first
                return
            if z in self.looked:
                first = i + 1
        self.done = len(self.order)

    def _clicked_ahead(self, z: int) -> bool:
        return any((clicked < z) if self.reverse else (clicked > z) for clicked in self.state.conditioning)


def run(chains: Iterable[Chain], step: Step) -> None:
    """Track all chains to their ends; slices that are ready go together through ``step``."""
    left = [chain for chain in chains if not chain.finished]
    while left:
        ready = [chain for chain in left if chain.ready][:_BATCH]
        for chain, output in zip(ready, step([chain.slot for chain in ready]), strict=True):
            chain.take(output)
        left = [chain for chain in left if not chain.finished]


def whole(state: State, features: Features) -> list[Chain]:
    """Return the chains of stock SAM 2: from the lowest clicked slice to the last, then down to the first."""
    start, depth = min(state.conditioning), features.depth
    up = Chain(state, features, _unclicked(state, range(start + 1, depth)), reverse=False)
    down = Chain(state, features, range(start - 1, -1, -1), reverse=True, after=up, lag=depth)
    return [up, down]


def sweep(state: State, features: Features, before: State, looked: dict[int, Output] | None, lag: int) -> list[Chain]:
    """Return the chains of fast mode: those of ``whole``, one ``lag`` slices behind the other, which leave slices out.

    Args:
        state: with the slices of the new clicks among ``conditioning``.
        features: of the session's slices.
        before: the state without them.
        looked: see ``Chain``.
        lag: slices that the way up must be ahead, as many as a slice on the way down remembers.
    """
    start, old = min(state.conditioning), before.outputs()
    order = _unclicked(state, range(start + 1, features.depth))
    up = Chain(state, features, order, False, ends=True, looked=looked, before=old)
    down = range(start - 1, -1, -1)
    return [up, Chain(state, features, down, True, after=up, lag=lag, ends=True, looked=looked, before=old)]


def _unclicked(state: State, slices: Iterable[int]) -> list[int]:
    return [z for z in slices if z not in state.conditioning]
