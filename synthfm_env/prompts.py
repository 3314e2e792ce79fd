"""Defines the prompts that a real or simulated user gives a segmenter: clicks, boxes and masks."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthfm_env.arguments import check_array, check_flag, is_whole
from synthfm_env.errors import InputError
from synthfm_env.printable import shown

_CLICK = re.compile(r"\s*(-?\d{1,9})\s*,\s*(-?\d{1,9})\s*,\s*(-?\d{1,9})\s*,\s*([+-])\s*")


@dataclass(frozen=True, slots=True)
class Click:
    """A voxel inside (positive) or outside (negative) the structure.

    Attributes:
        zyx: voxel index in the image's own grid, axes (z, y, x). A list, and numpy's integers, become a tuple of int.
        positive: True if the voxel belongs to the structure.

    Example:
        >>> Click((40, 120, 96)).positive
        True
        >>> Click.parse("40,150,96,-")
        Click(zyx=(40, 150, 96), positive=False)
    """

    zyx: tuple[int, int, int]
    positive: bool = True

    def __post_init__(self) -> None:
        """Make the index a plain tuple; ``check_inside`` refuses what is no index."""
        object.__setattr__(self, "zyx", _plain_index(self.zyx))

    @classmethod
    def parse(cls, text: str) -> "Click":
        """Read ``"z,y,x,+"`` or ``"z,y,x,-"``.

        Raises:
            InputError: the text has another form.
        """
        match = _CLICK.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise InputError(f"click {shown(text)} is not of the form z,y,x,+ or z,y,x,- (voxel indices)")
        z, y, x, sign = match.groups()
        return cls((int(z), int(y), int(x)), sign == "+")

    def check_inside(self, shape: tuple[int, ...]) -> None:
        """Check that the click names a voxel inside a (D, H, W) grid, and is positive or negative.

        Raises:
            InputError: it is not.
        """
        zyx = self.zyx
        if not isinstance(zyx, tuple) or len(zyx) != len(shape) or not all(map(is_whole, zyx)):
            raise InputError(f"click at {shown(zyx)}: expected three whole numbers z, y, x")
        if any(not 0 <= i < n for i, n in zip(zyx, shape, strict=True)):
            raise InputError(
                f"click {self} is outside the volume: z, y, x must be below {tuple(shape)} and not negative"
            )
        check_flag(self.positive, f"click at {shown(zyx)}: positive")

    def __str__(self) -> str:
        return ",".join(map(str, self.zyx)) + (",+" if self.positive else ",-")


def _plain_index(zyx: Any) -> Any:
    """Return whole numbers in a list or tuple as a tuple of int, which numpy takes for one voxel; others unchanged."""
    if type(zyx) is tuple and all(type(i) is int for i in zyx):
        return zyx
    return tuple(map(int, zyx)) if isinstance(zyx, list | tuple) and all(map(is_whole, zyx)) else zyx


def check_click(click: Click, shape: tuple[int, ...]) -> None:
    """Check a click before a session takes it.

    Raises:
        InputError: it is not a ``Click``, or not inside a (D, H, W) grid.

    Example:
        >>> from synthfm_env.prompts import Click, check_click
        >>> check_click(Click((0, 3, 3)), (1, 8, 8))
    """
    if not isinstance(click, Click):
        raise InputError(f"add({shown(click)}): expected a Click, for example Click((z, y, x))")
    click.check_inside(shape)


def as_clicks(clicks: Iterable[Click]) -> tuple[Click, ...]:
    """Return the clicks of any iterable, which is read once.

    Raises:
        InputError: the argument is no iterable.

    Example:
        >>> as_clicks(iter([Click((1, 2, 3))]))
        (Click(zyx=(1, 2, 3), positive=True),)
    """
    if not isinstance(clicks, Iterable):
        raise InputError(f"clicks={shown(clicks)}: expected a list of clicks, for example [Click((z, y, x))]")
    return tuple(clicks)


@dataclass(frozen=True, slots=True)
class Box:
    """A box of voxels around the structure. A box of one slice is a 2D box.

    Attributes:
        start: (z, y, x) of its first voxel, in the image's own grid. Lists become tuples, as in ``Click``.
        stop: (z, y, x) one past its last voxel.

    Raises:
        InputError: the corners are no three whole numbers each, or the box holds no voxel.

    Example:
        >>> from synthfm_env import Box
        >>> Box((4, 10, 12), (5, 30, 40)).thickness
        1
    """

    start: tuple[int, int, int]
    stop: tuple[int, int, int]

    def __post_init__(self) -> None:
        """Check the corners and make them plain tuples; check that no side is empty."""
        for corner in (self.start, self.stop):
            if not isinstance(corner, tuple | list) or len(corner) != 3 or not all(map(is_whole, corner)):
                raise InputError(f"box with a corner {shown(corner)}: expected three whole numbers z, y, x")
        object.__setattr__(self, "start", _plain_index(self.start))
        object.__setattr__(self, "stop", _plain_index(self.stop))
        if any(first >= last for first, last in zip(self.start, self.stop, strict=True)):
            raise InputError(
                f"box {self} holds no voxel: the stop is exclusive, so its z, y, x must be above the start's"
            )

    @classmethod
    def around(cls, mask: NDArray[np.bool_]) -> "Box":
        """Return the tight box around a mask.

        Args:
            mask: bool (D, H, W).

        Raises:
            InputError: the mask is empty.
        """
        filled = [np.flatnonzero(mask.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
        if not len(filled[0]):
            raise InputError("an empty mask has no box: give a mask with at least one voxel")
        z, y, x = ((int(along[0]), int(along[-1]) + 1) for along in filled)
        return cls((z[0], y[0], x[0]), (z[1], y[1], x[1]))

    @property
    def thickness(self) -> int:
        """Number of slices along z."""
        return self.stop[0] - self.start[0]

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """The box as an index of (D, H, W) arrays."""
        z, y, x = (slice(first, last) for first, last in zip(self.start, self.stop, strict=True))
        return z, y, x

    def check_inside(self, shape: tuple[int, ...]) -> None:
        """Check that the box is inside a (D, H, W) grid.

        Raises:
            InputError: it is not.
        """
        if any(first < 0 or last > n for first, last, n in zip(self.start, self.stop, shape, strict=True)):
            raise InputError(
                f"box {self} reaches outside the image: its start must not be negative, its stop at most {tuple(shape)}"
            )

    def __str__(self) -> str:
        return ",".join(map(str, self.start)) + ":" + ",".join(map(str, self.stop))


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """Clicks, a box and a mask that a segmenter gets at once and answers once.

    Attributes:
        clicks: given together: no mask is fed back between them.
        box: around the structure, or None.
        mask: bool (D, H, W) on the image's own grid, a first guess of the structure, or None.
    """

    clicks: tuple[Click, ...] = ()
    box: Box | None = None
    mask: NDArray[np.bool_] | None = None

    @classmethod
    def of(cls, clicks: Iterable[Click], box: Box | None = None, mask: NDArray[np.bool_] | None = None) -> "Prompt":
        """Return a prompt with the clicks of any iterable, which is read once.

        Raises:
            InputError: ``clicks`` is no iterable.
        """
        return cls(as_clicks(clicks), box, mask)

    def check(self, shape: tuple[int, ...]) -> None:
        """Check that the prompt is not empty, and that all of it is inside a (D, H, W) grid.

        Raises:
            InputError: it is not.
        """
        if not self.clicks and self.box is None and self.mask is None:
            raise InputError("an empty prompt: give at least one click, a box or a mask")
        for click in self.clicks:
            check_click(click, shape)
        if self.box is not None:
            if not isinstance(self.box, Box):
                raise InputError(f"box={shown(self.box)}: expected a Box, for example Box((0, 0, 0), (4, 9, 9))")
            self.box.check_inside(shape)
        if self.mask is None:
            return
        check_array(self.mask, "a prompt's mask")
        if self.mask.shape != tuple(shape) or self.mask.dtype != np.bool_:
            raise InputError(
                f"a mask of {self.mask.dtype} {self.mask.shape}: expected bool {tuple(shape)}, the image's own grid"
            )
        if not self.mask.any():
            raise InputError("an empty mask: give a mask with at least one voxel, or none")
