"""Prompts: what a user, real or simulated, tells a segmenter."""

import re
from dataclasses import dataclass

from synthfm_env.errors import InputError


@dataclass(frozen=True, slots=True)
class Click:
    """One voxel said to lie inside (positive) or outside (negative) the structure.

    Attributes:
        zyx: voxel index in the image's own grid, axes (z, y, x).
        positive: True for "this belongs to it", False for "this does not".
    """

    zyx: tuple[int, int, int]
    positive: bool = True

    @classmethod
    def parse(cls, text: str) -> "Click":
        """Read ``"z,y,x,+"`` or ``"z,y,x,-"``.

        Raises:
            InputError: the text has another form.
        """
        match = re.fullmatch(r"\s*(-?\d+)\s*,\s*(-?\d+)\s*,\s*(-?\d+)\s*,\s*([+-])\s*", text)
        if match is None:
            raise InputError(f"click {text!r} is not of the form z,y,x,+ or z,y,x,- (voxel indices)")
        z, y, x, sign = match.groups()
        return cls((int(z), int(y), int(x)), sign == "+")

    def check_inside(self, shape: tuple[int, ...]) -> None:
        """Raise InputError unless the click lies inside a (D, H, W) grid."""
        if any(not 0 <= i < n for i, n in zip(self.zyx, shape, strict=True)):
            raise InputError(
                f"click {self} lies outside the volume: z, y, x must be below {tuple(shape)} and not negative"
            )

    def __str__(self) -> str:
        return ",".join(map(str, self.zyx)) + (",+" if self.positive else ",-")
