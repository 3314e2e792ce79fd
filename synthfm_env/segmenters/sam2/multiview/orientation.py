"""Applies and inverts the eight orientations of a slice: mirrored along y or x or not, transposed or not."""

from itertools import product
from typing import Any, NamedTuple

from numpy.typing import NDArray
from torch import Tensor


class Orientation(NamedTuple):
    """Mirrors a slice along y and x, then swaps the axes, each if set."""

    mirror_y: bool
    mirror_x: bool
    swap: bool

    def apply(self, stack: NDArray[Any]) -> NDArray[Any]:
        """Return a stack (D, H, W) or (D, H, W, 3) with every slice reoriented; the identity returns it as it is."""
        if not any(self):
            return stack
        y, x = (slice(None, None, -1 if mirrored else 1) for mirrored in (self.mirror_y, self.mirror_x))
        mirrored = stack[:, y, x]
        # Not ascontiguousarray: it leaves the negative stride of a side of one pixel, which torch does not take.
        return (mirrored.swapaxes(1, 2) if self.swap else mirrored).copy(order="C")

    def apply_to_pixel(self, y: int, x: int, size: tuple[int, int]) -> tuple[int, int]:
        """Return where ``apply`` moves pixel (y, x) of a slice of ``size`` (H, W)."""
        y = size[0] - 1 - y if self.mirror_y else y
        x = size[1] - 1 - x if self.mirror_x else x
        return (x, y) if self.swap else (y, x)

    def invert(self, logits: Tensor) -> Tensor:
        """Undo ``apply`` on logits (D, h, w) of a reoriented stack."""
        straight = logits.transpose(1, 2) if self.swap else logits
        axes = [axis for axis, mirrored in ((1, self.mirror_y), (2, self.mirror_x)) if mirrored]
        return straight.flip(axes) if axes else straight


IDENTITY = Orientation(mirror_y=False, mirror_x=False, swap=False)
ALL_ORIENTATIONS = tuple(Orientation(*flags) for flags in product((False, True), repeat=3))
