"""The order in which slices are tracked after a click."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from synthfm_env.segmenters.sam2.features import Features
from synthfm_env.segmenters.sam2.state import Output, State, change

# Fast mode leaves a direction once the object has been gone for so many slices; SAM 2's memory reaches six back.
_PATIENCE = 6
# From the second click on it also leaves a direction, beyond the slices around the click, once so many slices in a row
# changed by at most this share of their pixels; ``refresh`` sees to the others.
_SETTLED = 3
_CHANGE = 0.02
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
        surely: none of the first so many slices is left out; None for none at all.
        before: outputs before the click, compared with to tell whether the rest may be left out.
        done: slices tracked so far.
    """

    state: State
    features: Features
    order: Sequence[int]
    reverse: bool
    after: "Chain | None" = None
    lag: int = 0
    surely: int | None = None
    before: dict[int, Output] = field(default_factory=dict)
    done: int = 0
    _left: bool = False
    _gone: int = 0
    _settled: int = 0

    @property
    def slot(self) -> Slot:
        """The slice to track next."""
        return Slot(self.state, self.features, self.order[self.done], self.reverse)

    @property
    def finished(self) -> bool:
        """Whether no slice is left."""
        return self._left or self.done >= len(self.order)

    @property
    def ready(self) -> bool:
        """Whether the next slice can be tracked now."""
        ahead = self.after is None or self.after.finished or self.after.done >= self.done + self.lag
        return ahead and not self.finished

    def take(self, output: Output) -> None:
        """Keep a slice's output and go on to the next, or leave out the rest."""
        z = self.order[self.done]
        self.state.tracked[z] = output
        self.done += 1
        if self.surely is None or self.done <= self.surely:
            return
        self._gone = 0 if bool((output["pred_masks"] > 0).any()) else self._gone + 1
        alike = bool(self.before) and change(output, self.before.get(z)) <= _CHANGE
        self._settled = self._settled + 1 if alike else 0
        if self._gone >= _PATIENCE and not self._clicked_ahead(z):
            for rest in self.order[self.done :]:
                self.state.tracked.pop(rest, None)
            self.done = len(self.order)
        elif self._settled >= _SETTLED:
            self._left = True

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


def affected(state: State, features: Features, before: State, lag: int) -> list[Chain]:
    """Return the chains of fast mode: both directions together, and what a click changes most.

    After the first click, or several at once, these are stock SAM 2's, one ``lag`` slices behind the other. After
    another click they lead from the clicked slice below it up through the slices around it, and on while masks change;
    and down from the lowest clicked slice, where the new click is that.

    Args:
        state: with the slices of the new clicks among ``conditioning``.
        features: of the session's slices.
        before: the state without them.
        lag: slices that the way up must be ahead, as many as a slice on the way down remembers.
    """
    start, clicked = min(state.conditioning), state.clicks[-1].zyx[0]
    below, surely, old = start, 0, before.outputs()
    if not before.clicks or len(state.clicks) > len(before.clicks) + 1:
        old = {}
    else:
        below = max((z for z in state.conditioning if z < clicked), default=clicked)
        # Slices above a new lowest click were tracked downwards until now: all up to the next click are tracked again.
        above = min((z for z in state.conditioning if z > clicked), default=clicked)
        surely = len(_unclicked(state, range(below + 1, above if clicked == start else clicked + 1)))
    order = _unclicked(state, range(below + 1, features.depth))
    up = Chain(state, features, order, reverse=False, surely=surely, before=old)
    if old and clicked > start:
        return [up]
    return [up, Chain(state, features, range(start - 1, -1, -1), True, after=up, lag=lag, surely=0, before=old)]


def _unclicked(state: State, slices: Iterable[int]) -> list[int]:
    return [z for z in slices if z not in state.conditioning]
