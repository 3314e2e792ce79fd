"""Prompts that an episode begins with, so that the agent knows which structure is meant."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import edt
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from scipy import ndimage

from synthfm_env.arguments import check_name, is_number
from synthfm_env.error_regions import as_voxel, deepest
from synthfm_env.errors import InputError
from synthfm_env.geometry import bounding_box
from synthfm_env.metrics import dice
from synthfm_env.printable import shown
from synthfm_env.prompts import Box, Click
from synthfm_env.segmenters.base import Prediction, Segmenter, Session

DEFAULT_DICE: Final = 0.7
"""Dice of the damaged mask if ``start_dice`` is not given."""

_STEPS = 24  # of the search for the damage that gives the stated Dice
_CORRELATION = 0.5  # of the radius of a ball of the structure's volume: length over which the damage is correlated

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
        """Prompt a session; returns its answer, None if there is nothing to give."""
        if self.click is not None:
            return session.add(self.click)
        if self.box is not None or self.mask is not None:
            return session.prompt(box=self.box, mask=self.mask)
        return None

    def observation(self) -> dict[str, NDArray[Any]]:
        """Return the observation's keys ``box`` and ``start_mask``; a click is among the clicks."""
        if self.box is not None:
            return {"box": np.array([self.box.start, self.box.stop], dtype=np.int32)}
        if self.mask is not None:
            return {"start_mask": self.mask.astype(np.uint8)}
        return {}


def deepest_mm(truth: NDArray[np.bool_], spacing: Spacing, rng: np.random.Generator, dice: float) -> StartPrompt:
    """Click the voxel farthest from the structure's border in mm: the first click of ``synthfm-mm-v1``."""
    return StartPrompt(click=Click(deepest(truth, spacing=spacing).zyx))


def deepest_voxels(truth: NDArray[np.bool_], spacing: Spacing, rng: np.random.Generator, dice: float) -> StartPrompt:
    """Click the voxel farthest from the structure's border in voxels: the first click of ``ritm-3d-v1``."""
    return StartPrompt(click=Click(deepest(truth).zyx))


def uniform(truth: NDArray[np.bool_], spacing: Spacing, rng: np.random.Generator, dice: float) -> StartPrompt:
    """Click a voxel of the structure, each with the same probability."""
    inside = np.flatnonzero(truth)
    place = np.unravel_index(inside[rng.integers(len(inside))], truth.shape)
    return StartPrompt(click=Click(as_voxel(np.array(place))))


def tight(truth: NDArray[np.bool_], spacing: Spacing, rng: np.random.Generator, dice: float) -> StartPrompt:
    """Give the smallest box that contains the structure."""
    return StartPrompt(box=Box.around(truth))


def damaged(truth: NDArray[np.bool_], spacing: Spacing, rng: np.random.Generator, dice: float) -> StartPrompt:
    """Give the structure with a border that smooth noise has moved, see ``damage``."""
    return StartPrompt(mask=damage(truth, spacing, dice, rng))


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
        InputError: an unknown name, or a protocol or Dice that the kind has no use for.
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


def damage(truth: NDArray[np.bool_], spacing: Spacing, target: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return a copy of a mask whose border is moved by smooth noise until its Dice with the mask is ``target``.

    The signed distance to the border, in mm, is added to Gaussian noise that is correlated over half the radius of a
    ball of the structure's volume; what is above 0 is the damaged mask. Bisection finds the noise's amplitude.
    Structures of a few voxels reach the nearest Dice that their voxels allow.

    Args:
        truth: bool (D, H, W), at least one voxel.
        spacing: voxel size (z, y, x) in mm.
        target: Dice, above 0 and up to 1.
        rng: source of chance.

    Returns:
        bool (D, H, W), at least one voxel.

    Example:
        >>> truth = np.zeros((20, 20, 20), dtype=bool)
        >>> truth[5:15, 5:15, 5:15] = True
        >>> round(dice(damage(truth, (1.0, 1.0, 1.0), 0.7, np.random.default_rng(0)), truth), 1)
        0.7
    """
    radius = (3 / (4 * np.pi) * np.count_nonzero(truth) * np.prod(spacing)) ** (1 / 3)
    margin = max(2, int(np.ceil(2 * radius / min(spacing))))
    box = bounding_box(truth, margin)
    assert box is not None
    crop = truth[box]
    distance = _signed_distance(crop, spacing)
    noise = ndimage.gaussian_filter(rng.standard_normal(crop.shape), [_CORRELATION * radius / mm for mm in spacing])
    noise *= radius / max(float(noise.std()), 1e-12)
    best, best_miss = crop, 1 - target
    low, high = 0.0, 8.0
    for _ in range(_STEPS):
        amplitude = (low + high) / 2
        mask = distance + amplitude * noise > 0
        reached = dice(mask, crop) if mask.any() else 0.0
        if mask.any() and abs(reached - target) < best_miss:
            best, best_miss = mask, abs(reached - target)
        low, high = (amplitude, high) if reached > target else (low, amplitude)
    damaged_mask = np.zeros_like(truth)
    damaged_mask[box] = best
    return damaged_mask


def _signed_distance(mask: NDArray[np.bool_], spacing: Spacing) -> NDArray[np.float32]:
    """Return the distance to the border in mm, positive inside; an axis of one voxel is left out."""
    axes = [axis for axis in range(3) if mask.shape[axis] > 1] or [2]
    steps = tuple(spacing[axis] for axis in axes)
    anisotropy = steps if len(steps) > 1 else steps[0]
    inside = np.ascontiguousarray(mask.reshape([mask.shape[axis] for axis in axes]))
    inner, outer = (edt.edt(part.view(np.uint8), anisotropy=anisotropy, parallel=1) for part in (inside, ~inside))
    return np.asarray(inner - outer).reshape(mask.shape)
