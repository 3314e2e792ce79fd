"""Memories of single slices, and the state of a stack of slices that they add up to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from synthfm_env.prompts import Click

MAX_LOGIT = 32.0  # larger logits mean no more; -1024 stands for a slice without the object


@dataclass(frozen=True, slots=True, eq=False)
class SliceMemory:
    """Mask of one slice, and what later slices attend to. States share it: it is replaced, never changed.

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
        """Whether any pixel is inside."""
        return bool((self.logits > 0).any())

    def as_sam2_output(self, position: list[Tensor]) -> dict[str, Any]:
        """Return the dictionary that ``SAM2Base`` keeps of a frame.

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
    """Everything that follows from the prompts on one stack of slices.

    A prompt changes a shallow copy, so every earlier state stays valid and ``undo`` is exact.

    Attributes:
        clicks: oldest first.
        conditioning: memories of prompted slices, by slice.
        tracked: memories of other slices; a slice that is missing holds no object.
        points: clicks and corners of boxes in pixels of the model's square, by slice, in the form that SAM 2 takes.
        prompts: number of prompts so far; several clicks given at once are one.
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
        """Return the memory of a slice, None for a slice without an object."""
        return self.conditioning.get(z) or self.tracked.get(z)

    def memories(self) -> dict[int, SliceMemory]:
        """Return the memories of all slices, by slice."""
        return self.tracked | self.conditioning

    def as_sam2_outputs(self, position: list[Tensor]) -> dict[str, dict[int, dict[str, Any]]]:
        """Return the memories in the form that ``SAM2Base.track_step`` reads."""
        groups = {"cond_frame_outputs": self.conditioning, "non_cond_frame_outputs": self.tracked}
        return {name: {z: each.as_sam2_output(position) for z, each in kept.items()} for name, kept in groups.items()}


class SliceFeatures(Protocol):
    """The image features of a stack's slices; ``FeatureCache`` is one."""

    depth: int

    def maps(self, z: int) -> list[Tensor]:
        """Return float32 (1, C, h, w) of slice ``z`` at strides 4, 8 and 16."""


class SliceStep(NamedTuple):
    """One slice to track next, with the memories that it attends to.

    Attributes:
        state: of the slice's stack.
        features: of the slice's stack.
        z: the slice.
        reverse: tracked downwards, towards slice 0.
    """

    state: StackState
    features: SliceFeatures
    z: int
    reverse: bool


TrackSlices = Callable[[Sequence[SliceStep]], list[SliceMemory]]


def mask_change(now: SliceMemory, before: SliceMemory | None) -> float:
    """Return 1 - IoU of a slice's masks: changed pixels over pixels of either mask; 0 if both are empty.

    A slice that was left out before (None) was empty.
    """
    mask = now.logits > 0
    if before is None:
        return float(mask.any())
    old = before.logits > 0
    return int((mask ^ old).sum()) / max(1, int((mask | old).sum()))
