"""What follows from the clicks of one session so far."""

from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from synthfm_env.prompts import Click

# What SAM 2 keeps of one slice, by the names that SAM2Base reads: "maskmem_features", "maskmem_pos_enc", "pred_masks",
# "obj_ptr"; and "iou", its estimate of the mask's quality, where fast mode tracked it. Never changed once stored.
Output = dict[str, Any]


@dataclass(slots=True)
class State:
    """Clicks, and every slice's mask and memory. Copied shallowly before each click, so that undo is exact.

    Attributes:
        clicks: oldest first.
        conditioning: clicked slices.
        tracked: the other slices; one that is missing holds no object.
        points: clicks and corners of boxes in pixels of the model's square, by slice, in the form that SAM 2 takes.
        prompts: number of prompts so far; several clicks given at once are one.
        newest: slices that the newest prompt conditioned.
    """

    clicks: tuple[Click, ...] = ()
    conditioning: dict[int, Output] = field(default_factory=dict)
    tracked: dict[int, Output] = field(default_factory=dict)
    points: dict[int, dict[str, Tensor]] = field(default_factory=dict)
    prompts: int = 0
    newest: tuple[int, ...] = ()

    def copy(self) -> "State":
        """Return a state that may be changed without changing this one."""
        return replace(self, conditioning=dict(self.conditioning), tracked=dict(self.tracked), points=dict(self.points))

    def output(self, z: int) -> Output | None:
        """Return what is kept of a slice."""
        return self.conditioning.get(z) or self.tracked.get(z)

    def outputs(self) -> dict[int, Output]:
        """Return what is kept of all slices."""
        return self.tracked | self.conditioning

    def memory(self) -> dict[str, dict[int, Output]]:
        """Return the outputs in the form that ``SAM2Base.track_step`` reads."""
        return {"cond_frame_outputs": self.conditioning, "non_cond_frame_outputs": self.tracked}


def change(output: Output, before: Output | None) -> float:
    """Return the share of a slice's mask that changed: changed pixels over those of either mask.

    It is 0 where both are empty. A slice that was left out before was empty.
    """
    mask = output["pred_masks"] > 0
    if before is None:
        return float(mask.any())
    old = before["pred_masks"] > 0
    return int((mask ^ old).sum()) / max(1, int((mask | old).sum()))
