"""Makes the prompt that an episode begins with, so that the agent knows which structure to segment."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from synthfm_env.arguments import check_name, is_number
from synthfm_env.envs.damaged_mask import damaged_mask
from synthfm_env.error_regions import as_voxel, deepest_voxel
from synthfm_env.errors import InputError
from synthfm_env.printable import shown
from synthfm_env.prompts import Box, Click
from synthfm_env.segmenters.base import Prediction, Segmenter, Session

DEFAULT_DICE: Final = 0.7
"""Dice of the damaged mask if ``start_dice`` is not given."""

Spacing = tuple[float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class StartPrompt:
    """The first prompt of one episode; at most one field is given.

    Attributes:
        click: in the structure.
        box: around the structure.
        mask: bool (D, H, W), a damaged copy of the structure.
    """

    click: Click | None = None
    box: Box | None = None
    mask: NDArray[np.bool_] | None = None

    def give(self, session: Session) -> Prediction | None:
        """Prompt a session and return its answer, or None if this start prompt is empty."""
        if self.click is not None:
            return session.add(self.click)
        if self.box is not None or self.mask is not None:
            return session.prompt(box=self.box, mask=self.mask)
        return None

    def observation(self) -> dict[str, NDArray[Any]]:
        """Return the entry that the observation gets: ``box``, ``start_mask``, or none for a click, which it lists."""
        if self.box is not None:
            return {"box": np.array([self.box.start, self.box.stop], dtype=np.int32)}
        if self.mask is not None:
            return {"start_mask": self.mask.astype(np.uint8)}
        return {}


def deepest_mm(truth: NDArray[np.bool_], spacing: Spacing, rng: np.random.Generator, dice: float) -> StartPrompt:
    """Click the voxel farthest from the structure's border in mm: the first click of ``synthfm-mm-v1``."""
    return StartPrompt(click=Click(deepest_voxel(truth, spacing=spacing).zyx))


def deepest_voxels(truth: NDArray[np.bool_], spacing: Spacing, rng: np.random.Generator, dice: float) -> StartPrompt:
    """Click the voxel farthest from the structure's border in voxels: the first click of ``ritm-3d-v1``."""
    return StartPrompt(click=Click(deepest_voxel(truth).zyx))


def uniform(truth: NDArray[np.bool_], spacing: Spacing, rng: np.random.Generator, dice: float) -> StartPrompt:
    """Click a voxel of the structure, each with the same probability."""
    inside = np.flatnonzero(truth)
    place = np.unravel_index(inside[rng.integers(len(inside))], truth.shape)
    return StartPrompt(click=Click(as_voxel(np.array(place))))


def tight(truth: NDArray[np.bool_], spacing: Spacing, rng: np.random.Generator, dice: float) -> StartPrompt:
    """Give the smallest box that contains the structure."""
    return StartPrompt(box=Box.around(truth))


def damaged(truth: NDArray[np.bool_], spacing: Spacing, rng: np.random.Generator, dice: float) -> StartPrompt:
    """Give the structure with a border that smooth noise has moved, see ``damaged_mask``."""
    return StartPrompt(mask=damaged_mask(truth, spacing, dice, rng))


_Rule = Callable[[NDArray[np.bool_], Spacing, np.random.Generator, float], StartPrompt]

# The first protocol of each kind is its default. A rule that prompts differently gets a new name.
START_PROTOCOLS: Final[dict[str, dict[str, _Rule]]] = {
    "click": {"deepest-mm-v1": deepest_mm, "deepest-voxels-v1": deepest_voxels, "uniform-v1": uniform},
    "box": {"tight-v1": tight},
    "mask": {"damaged-v1": damaged},
}
STARTS: Final = ("empty", *START_PROTOCOLS)


class Start:
    """The prompt that every episode of an environment begins with.

    Args:
        kind: ``"empty"``, ``"click"``, ``"box"`` or ``"mask"``.
        protocol: a name from ``START_PROTOCOLS[kind]``; None for the first one.
        start_dice: Dice of a damaged mask with the truth, above 0 and up to 1; None for ``DEFAULT_DICE``.

    Raises:
        InputError: an unknown name, or a protocol or Dice that this kind does not take.
    """

    def __init__(self, kind: str, protocol: str | None, start_dice: float | None) -> None:
        check_name("start", kind, STARTS)
        if kind == "empty" and protocol is not None:
            raise InputError(
                f"start_protocol is {protocol!r}, but start is 'empty': give start='click', 'box' or 'mask'"
            )
        if start_dice is not None and kind != "mask":
            raise InputError(f"start_dice is {start_dice}, but start is {kind!r}: only start='mask' has a Dice")
        self.kind = kind
        self.dice = DEFAULT_DICE if start_dice is None else start_dice
        if not (is_number(self.dice) and 0 < self.dice <= 1):
            raise InputError(f"start_dice is {shown(start_dice)}: expected a Dice above 0 and up to 1")
        known = START_PROTOCOLS.get(kind, {})
        if protocol is not None:
            check_name(f"start protocol for start={kind!r}", protocol, known)
        self.protocol = protocol or next(iter(known), "")
        self._rule = known.get(self.protocol)

    def __str__(self) -> str:
        dice = f" {self.dice:g}" if self.kind == "mask" else ""
        return f"{self.kind} {self.protocol}{dice}".strip()

    def __getstate__(self) -> tuple[str, str | None, float | None]:
        return self.kind, self.protocol or None, self.dice if self.kind == "mask" else None

    def __setstate__(self, state: tuple[str, str | None, float | None]) -> None:
        Start.__init__(self, *state)

    def check(self, segmenter: Segmenter) -> None:
        """Raise InputError unless a segmenter takes this kind of prompt."""
        capabilities = segmenter.capabilities
        takes = {"box": capabilities.boxes, "mask": capabilities.initial_mask}
        if not takes.get(self.kind, True):
            others = [kind for kind in STARTS if takes.get(kind, True)]
            raise InputError(
                f"start={self.kind!r}: segmenter {segmenter.name!r} takes no {self.kind} as a prompt; "
                f"give start= one of {', '.join(others)}, or another segmenter"
            )

    def spaces(self, shape: tuple[int, int, int]) -> dict[str, spaces.Space[Any]]:
        """Return the spaces of ``StartPrompt.observation``."""
        if self.kind == "box":
            return {"box": spaces.Box(np.int32(0), np.array([shape, shape], dtype=np.int32), (2, 3), np.int32)}
        if self.kind == "mask":
            return {"start_mask": spaces.Box(0, 1, shape, np.uint8)}
        return {}

    def draw(self, truth: NDArray[np.bool_], spacing: Spacing, rng: np.random.Generator) -> StartPrompt:
        """Return the first prompt for a structure.

        Args:
            truth: bool (D, H, W), at least one voxel.
            spacing: voxel size (z, y, x) in mm.
            rng: source of chance.
        """
        return StartPrompt() if self._rule is None else self._rule(truth, spacing, rng, self.dice)
