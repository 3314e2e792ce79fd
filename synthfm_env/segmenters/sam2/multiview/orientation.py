"""The eight ways to lay a slice: turned by quarters, mirrored or not."""

from itertools import product
from typing import Any, NamedTuple

from numpy.typing import NDArray
from torch import Tensor


class Turn(NamedTuple):
    """Mirrored along y, along x, then axes swapped, each or not."""

    mirror_y: bool
    mirror_x: bool
    swap: bool

    def lay(self, stack: NDArray[Any]) -> NDArray[Any]:
        """Return a stack (D, H, W) or (D, H, W, 3) with each slice turned; itself where nothing turns."""
        if not any(self):
            return stack
        y, x = (slice(None, None, -1 if mirrored else 1) for mirrored in (self.mirror_y, self.mirror_x))
        turned = stack[:, y, x]
        # Not ascontiguousarray: it leaves the negative stride of a side of one pixel, which torch does not take.
        return (turned.swapaxes(1, 2) if self.swap else turned).copy(order="C")

    def place(self, y: int, x: int, size: tuple[int, int]) -> tuple[int, int]:
        """Return where pixel (y, x) of a slice of ``size`` (H, W) comes to lie."""
        y = size[0] - 1 - y if self.mirror_y else y
        x = size[1] - 1 - x if self.mirror_x else x
        return (x, y) if self.swap else (y, x)

    def back(self, logits: Tensor) -> Tensor:
        """Lay the logits (D, h, w) of a turned stack as the stack was."""
        straight = logits.transpose(1, 2) if self.swap else logits
        axes = [axis for axis, mirrored in ((1, self.mirror_y), (2, self.mirror_x)) if mirrored]
        return straight.flip(axes) if axes else straight


AS_IT_IS = Turn(mirror_y=False, mirror_x=False, swap=False)
ALL_TURNS = tuple(Turn(*parts) for parts in product((False, True), repeat=3))
