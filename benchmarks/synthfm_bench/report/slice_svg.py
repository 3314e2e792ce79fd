"""Pictures of an episode as SVG: slices with contours and numbered clicks, one drawing for all clicks."""

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.measure import approximate_polygon, find_contours

from synthfm_bench.execution.replay import ReplayedAnswer, ReplayedCase
from synthfm_env.prompts import Click

_T = TypeVar("_T")

SIDE = 320
"""Longest side of a drawing, in its own units."""

_MOST_PIXELS = 384
_LEAST_HEIGHT = 24  # drawing units, below which a plane is not drawn
_TOLERANCE = 0.3  # pixels by which a contour may be simplified
_RADIUS = 8.0  # of a click, in drawing units


@dataclass(frozen=True)
class Film:
    """An episode drawn.

    Attributes:
        planes: SVG text of each plane; groups of class "step" and "click" carry ``data-step``.
        dices: after each click that is drawn.
        signs: "+" or "-" of each click.
        same: whether every mask is the recorded one.
    """

    planes: tuple[str, ...]
    dices: tuple[float, ...]
    signs: tuple[str, ...]
    same: bool


@dataclass(frozen=True)
class _Plane:
    """A part of one slice through a volume.

    Attributes:
        axis: across which it is cut.
        index: of the slice along that axis.
        flipped: whether its rows grow upwards.
        rows: which of them are shown, counted as they are drawn.
        columns: which of them are shown.
        scale: drawing units a voxel, down and to the right.
        radius: of a click, in drawing units.
    """

    axis: int
    index: int
    flipped: bool
    rows: slice
    columns: slice
    scale: tuple[float, float]
    radius: float

    @property
    def height(self) -> float:
        """Of the drawing, in its own units."""
        return (self.rows.stop - self.rows.start) * self.scale[0]

    def cut(self, volume: NDArray) -> NDArray:
        """Return the part of a volume's slice that the drawing shows."""
        plane = volume.take(self.index, axis=self.axis)
        return (plane[::-1] if self.flipped else plane)[self.rows, self.columns]

    def place(self, click: Click, height: int) -> tuple[float, float]:
        """Return a click's place in the drawing, (right, down); ``height`` is that of the whole slice."""
        row, column = _rows_and_columns(click.zyx, self.axis)
        row = height - 1 - row if self.flipped else row
        return (column - self.columns.start + 0.5) * self.scale[1], (row - self.rows.start + 0.5) * self.scale[0]


def draw_film(case: ReplayedCase, clicks: Sequence[Click], answers: Iterable[ReplayedAnswer]) -> Film:
    """Draw the three planes in which the structure is largest; of a 2D image or a few slices, only the first.

    Planes are cut to the surroundings of the structure and the clicks. The truth is outlined in blue, the mask after
    each click in orange. A click is a numbered disc, green where it is positive and red where it is negative; pale
    if it is in another slice.

    Args:
        case: what the episode is played on.
        clicks: all that will be answered.
        answers: taken one by one, so that one mask is held at a time.
    """
    planes = [_plane(case, axis, clicks) for axis in ((0,) if case.image.shape[0] == 1 else (0, 1, 2))]
    planes = planes[:1] + [plane for plane in planes[1:] if plane.height >= _LEAST_HEIGHT]
    layers: list[list[str]] = [[] for _ in planes]
    marks: list[list[str]] = [[] for _ in planes]
    dices, signs, same = [], [], True
    for number, answer in enumerate(answers, start=1):
        for plane, layer, mark in zip(planes, layers, marks, strict=True):
            layer.append(f'<g class="step" data-step="{number}">{_outline(plane, answer.mask, "mask")}</g>')
            mark.append(_disc(plane, number, answer))
        dices.append(answer.step.dice)
        signs.append("+" if answer.click.positive else "-")
        same = same and answer.same
    drawn = tuple(
        _svg(case, plane, "".join(layer), "".join(mark))
        for plane, layer, mark in zip(planes, layers, marks, strict=True)
    )
    return Film(drawn, tuple(dices), tuple(signs), same)


def _plane(case: ReplayedCase, axis: int, clicks: Sequence[Click]) -> _Plane:
    """Return the slice across an axis in which the structure is largest, cut to the structure and the clicks."""
    index = int(case.truth.sum(axis=_rows_and_columns((0, 1, 2), axis)).argmax())
    flipped = axis > 0 or case.anterior_up
    truth = case.truth.any(axis=axis)
    points = [_rows_and_columns(click.zyx, axis) for click in clicks] + np.argwhere(truth).tolist()
    places = np.array(points).reshape(-1, 2)
    if flipped:
        places[:, 0] = truth.shape[0] - 1 - places[:, 0]
    steps = _rows_and_columns(case.spacing, axis)
    rows, columns = _windows(places, truth.shape, steps)
    unit = SIDE / max((rows.stop - rows.start) * steps[0], (columns.stop - columns.start) * steps[1])
    radius = _RADIUS if axis == 0 else _RADIUS * 1.6  # the planes below the first are shown at half its width
    return _Plane(axis, index, flipped, rows, columns, (steps[0] * unit, steps[1] * unit), radius)


def _windows(places: NDArray[np.int64], shape: Sequence[int], steps: tuple[float, float]) -> tuple[slice, slice]:
    """Return the rows and the columns to show: a square around the places with room about them, in the image.

    Args:
        places: (n, 2), row and column of all that is of interest.
        shape: rows and columns that there are.
        steps: mm a row and a column.
    """
    low, high = places.min(axis=0), places.max(axis=0) + 1
    side = max(*(2 * (high - low) * steps), *(0.4 * np.array(shape) * steps))
    windows = []
    for axis in (0, 1):
        wanted = min(shape[axis], max(1, round(side / steps[axis])))
        start = min(max(0, (int(low[axis] + high[axis]) - wanted) // 2), shape[axis] - wanted)
        windows.append(slice(start, start + wanted))
    return windows[0], windows[1]


def _rows_and_columns(values: Sequence[_T], axis: int) -> tuple[_T, _T]:
    """Return those of three values that belong to the rows and the columns of a plane across an axis."""
    rows, columns = (value for place, value in enumerate(values) if place != axis)
    return rows, columns


def _svg(case: ReplayedCase, plane: _Plane, layers: str, marks: str) -> str:
    """Return the SVG of a plane: image, outline of the truth, outlines of the masks, clicks."""
    grey = plane.cut(case.image)
    height, width = (n * scale for n, scale in zip(grey.shape, plane.scale, strict=True))
    name = "zyx"[plane.axis]
    size = 1.5 * plane.radius
    text = f'<text class="slice" x="4" y="{height - 5:.1f}" font-size="{size:.0f}">{name} {plane.index}</text>'
    label = "" if case.image.shape[0] == 1 else text
    return (
        f'<svg viewBox="0 0 {width:.1f} {height:.1f}" role="img" aria-label="slice {name} {plane.index}">'
        f'<image width="{width:.1f}" height="{height:.1f}" preserveAspectRatio="none" href="{_data_url(grey)}"/>'
        f"{_outline(plane, case.truth, 'truth')}{layers}{marks}"
        f"{label}</svg>"
    )


def _data_url(grey: NDArray[np.uint8]) -> str:
    """Return an image as a JPEG in a ``data:`` URL, at most ``_MOST_PIXELS`` a side."""
    image = Image.fromarray(np.ascontiguousarray(grey))
    image.thumbnail((_MOST_PIXELS, _MOST_PIXELS))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def _outline(plane: _Plane, mask: NDArray[np.bool_], kind: str) -> str:
    """Return the path around a mask in a plane; closed at the border of the image too."""
    inside = np.pad(plane.cut(mask), 1).astype(np.float32)
    parts = []
    for contour in find_contours(inside, 0.5):
        corners = (approximate_polygon(contour, _TOLERANCE) - 0.5) * plane.scale
        parts.append("M" + "L".join(f"{right:.1f} {down:.1f}" for down, right in corners[:-1]) + "Z")
    return f'<path class="{kind}" d="{"".join(parts)}"/>'


def _disc(plane: _Plane, number: int, answer: ReplayedAnswer) -> str:
    """Return the numbered disc of a click, with a tooltip."""
    right, down = plane.place(answer.click, answer.mask.shape[1 if plane.axis == 0 else 0])
    sign = "positive" if answer.click.positive else "negative"
    elsewhere = "" if answer.click.zyx[plane.axis] == plane.index else " elsewhere"
    z, y, x = answer.click.zyx
    described = f"click {number}, {sign}, z {z}, y {y}, x {x}: Dice {answer.step.dice:.3f}"
    return (
        f'<g class="click {sign}{elsewhere}" data-step="{number}"><title>{described}</title>'
        f'<circle cx="{right:.1f}" cy="{down:.1f}" r="{plane.radius:.1f}"/>'
        f'<text x="{right:.1f}" y="{down + 0.44 * plane.radius:.1f}" font-size="{1.25 * plane.radius:.1f}">'
        f"{number}</text></g>"
    )
