"""Clicks at the centre of the error: a rule of SAM 2."""

from typing import ClassVar

from synthfm_agents.protocol import ClickContext, ClickProtocol
from synthfm_agents.protocols.ritm_3d import deeper_of
from synthfm_env.error_regions import deepest_voxel
from synthfm_env.prompts import Click


class Sam2Center(ClickProtocol):
    """Oracle: the deepest voxel of the error, without memory of the clicks before (SAM 2's "center").

    As ``ritm-3d-v1``, but voxels clicked before count like any other: if the segmenter ignores a click, the
    same voxel is clicked again. It stops on a perfect mask. It draws nothing at random.

    Source: Ravi et al., "SAM 2: Segment Anything in Images and Videos", 2024; ``sam2/modeling/sam2_utils.py``,
    ``sample_one_point_from_error_center``. That code works on one frame, this is the rule in three dimensions;
    on a perfect mask it clicks the first pixel as negative. SAM 2 trains with another rule, a random voxel of
    the error.
    """

    name: ClassVar[str] = "sam2-center-v1"

    def choose(self, context: ClickContext) -> Click | None:
        """Return the click into the deepest error."""
        return deeper_of(deepest_voxel(context.missed), deepest_voxel(context.false))
