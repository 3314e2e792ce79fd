"""Defines the memory of one slice and the state of a stack of slices."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from synthfm_env.prompts import Click

MAX_LOGIT = 32.0  # logits are clipped to this size before they are compared; -1024 marks a slice without the object


@dataclass(frozen=True, slots=True, eq=False)
class SliceMemory:
    """Mask of one slice, with the features that later slices attend to. Immutable: states share it.

    Attributes:
        logits: float32 (1, 1, h, w), the mask at a quarter of the model's resolution; -1024 if there is no object.
        features: bfloat16 (1, C, h / 4, w / 4), from the memory encoder.
        pointer: (1, C), the object pointer.
        iou: scalar, the model's estimate of the mask's quality; None if stock SAM 2 decoded the slice.
    """

    logits: Tensor
    features: Tensor
    pointer: Tensor
    iou: Tensor | None = None

    @property
    def shows_object(self) -> bool:
        """Whether the mask has a pixel."""
        return bool((self.logits > 0).any())

    def as_sam2_output(self, position: list[Tensor]) -> dict[str, Any]:
        """Return the memory as the dictionary that ``SAM2Base`` keeps for a frame.

        Args:
            position: position encoding of the features, the same for every slice.
        """
        return {
            "maskmem_features": self.features,
            "maskmem_pos_enc": position,
            "pred_masks": self.logits,
            "obj_ptr": self.pointer,
        }


@dataclass(slots=True)
class StackState:
    """Prompts on one stack of slices and the memories that follow from them.

    A prompt changes a shallow copy, so every earlier state stays valid and ``undo`` is exact.

    Attributes:
        clicks: oldest first.
        conditioning: memories of prompted slices, by slice.
        tracked: memories of other slices, by slice; a missing slice has no object.
        points: clicks and box corners in pixels of the model's square frame, by slice, in SAM 2's format.
        prompts: number of prompts so far; several clicks given at once are one prompt.
        newest: slices that the newest prompt conditioned.
    """

    clicks: tuple[Click, ...] = ()
    conditioning: dict[int, SliceMemory] = field(default_factory=dict)
    tracked: dict[int, SliceMemory] = field(default_factory=dict)
    points: dict[int, dict[str, Tensor]] = field(default_factory=dict)
    prompts: int = 0
    newest: tuple[int, ...] = ()

    def copy(self) -> "StackState":
        """Return a state that may be changed without changing this one."""
        return replace(self, conditioning=dict(self.conditioning), tracked=dict(self.tracked), points=dict(self.points))

    def memory_of(self, z: int) -> SliceMemory | None:
        """Return the memory of a slice, or None without an object."""
        return self.conditioning.get(z) or self.tracked.get(z)

    def memories(self) -> dict[int, SliceMemory]:
        """Return the memories of all slices, by slice."""
        return self.tracked | self.conditioning

    def as_sam2_outputs(self, position: list[Tensor]) -> dict[str, dict[int, dict[str, Any]]]:
        """Return the memories in the form that ``SAM2Base.track_step`` reads."""
        groups = {"cond_frame_outputs": self.conditioning, "non_cond_frame_outputs": self.tracked}
        return {name: {z: each.as_sam2_output(position) for z, each in kept.items()} for name, kept in groups.items()}


class SliceFeatures(Protocol):
    """Interface of the image features of a stack's slices; ``FeatureCache`` implements it."""

    depth: int

    def maps(self, z: int) -> list[Tensor]:
        """Return float32 (1, C, h, w) of slice ``z`` at strides 4, 8 and 16."""


class SliceStep(NamedTuple):
    """The next slice to track in a sweep.

    Attributes:
        state: of the slice's stack, with the memories that it attends to.
        features: of the slice's stack.
        z: index of the slice.
        reverse: whether the sweep goes downwards, towards slice 0.
    """

    state: StackState
    features: SliceFeatures
    z: int
    reverse: bool


TrackSlices = Callable[[Sequence[SliceStep]], list[SliceMemory]]


def mask_change(now: SliceMemory, before: SliceMemory | None) -> float:
    """Return 1 - IoU of two masks of a slice; 0 if both are empty.

    Args:
        now: one memory.
        before: another one; None is an empty mask.
    """
    mask = now.logits > 0
    if before is None:
        return float(mask.any())
    old = before.logits > 0
    return int((mask ^ old).sum()) / max(1, int((mask | old).sum()))
