"""Draws pictures of a volume with its clicks and masks, with numpy and Pillow."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from synthfm_env.prompts import Click

PANEL = 360  # side of one of three planes, in pixels
SINGLE_PANEL = 512  # side of the one plane of a 2D image, in pixels
GAP = 6  # between planes, in pixels
LINE = 2  # width of an outline, in pixels

Colour = tuple[int, int, int]
MASK: Colour = (255, 160, 30)
TRUTH: Colour = (70, 200, 255)
POSITIVE: Colour = (40, 170, 80)
NEGATIVE: Colour = (215, 50, 50)
WHITE: Colour = (255, 255, 255)


def draw_frame(
    image: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    truth: NDArray[np.bool_] | None,
    clicks: Sequence[Click],
    spacing: tuple[float, float, float],
    caption: str = "",
    *,
    anterior_up: bool = False,
) -> NDArray[np.uint8]:
    """Draw the three planes through the newest click, or the one plane of a 2D image.

    From left to right: (y, x), (z, x) and (z, y), each in true proportions, z upwards, x to the right. The
    mask is outlined inside its edge (orange), the truth outside its edge (blue), so that both show where they
    agree. Discs are the clicks in the plane: green with a plus, red with a minus, the newest ringed
    in white. Without a click, the planes cut the middle of the volume.

    Args:
        image: uint8 (D, H, W), axes (z, y, x).
        mask: bool (D, H, W).
        truth: bool (D, H, W), or None to leave it out.
        clicks: oldest first.
        spacing: (z, y, x) in mm.
        caption: a short text for the upper left corner, for example the Dice.
        anterior_up: turn the (y, x) plane over, for grids whose y grows towards the front of the body, as
            those of NIfTI files do here.

    Returns:
        uint8 (h, w, 3), the same size for all volumes, and for all 2D images.
    """
    centre = clicks[-1].zyx if clicks else (image.shape[0] // 2, image.shape[1] // 2, image.shape[2] // 2)
    axes = (0,) if image.shape[0] == 1 else (0, 1, 2)
    side = SINGLE_PANEL if len(axes) == 1 else PANEL
    frame = Image.new("RGB", (len(axes) * (side + GAP) - GAP, side))
    for column, axis in enumerate(axes):
        upside_down = axis > 0 or anterior_up
        panel = _panel(axis, centre[axis], image, mask, truth, clicks, spacing, side, upside_down)
        left = column * (side + GAP)
        frame.paste(panel, (left + (side - panel.width) // 2, (side - panel.height) // 2))
        draw = ImageDraw.Draw(frame)
        _text(draw, (left + 5, side - 21), [(f"{'zyx'[axis]} {centre[axis]}", WHITE)])
    legend = [(caption, WHITE)] if caption else []
    legend += [("mask", MASK)] + ([("truth", TRUTH)] if truth is not None else [])
    _text(draw, (5, 4), legend)
    return np.array(frame)


def _panel(
    axis: int,
    index: int,
    image: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    truth: NDArray[np.bool_] | None,
    clicks: Sequence[Click],
    spacing: tuple[float, float, float],
    side: int,
    upside_down: bool,
) -> Image.Image:
    """Draw the plane ``index`` of ``axis``, as large as fits a square of ``side`` pixels."""
    rows, columns = (a for a in range(3) if a != axis)
    millimetres = np.array([image.shape[a] * spacing[a] for a in (rows, columns)])
    height, width = np.maximum(1, np.rint(millimetres * side / millimetres.max()).astype(int)).tolist()

    def scaled(volume: NDArray, resample: Image.Resampling) -> NDArray[np.uint8]:
        plane = volume.take(index, axis=axis)[:: -1 if upside_down else 1].astype(np.uint8)
        return np.array(Image.fromarray(plane).resize((width, height), resample))

    # The grey image, then the outlines of truth and mask.
    canvas = np.repeat(scaled(image, Image.Resampling.BILINEAR)[..., None], 3, axis=2)
    if truth is not None:
        canvas[_edge(scaled(truth, Image.Resampling.NEAREST) == 0, beyond=True)] = TRUTH
    canvas[_edge(scaled(mask, Image.Resampling.NEAREST) > 0, beyond=False)] = MASK
    # The clicks in this plane.
    panel = Image.fromarray(canvas)
    draw = ImageDraw.Draw(panel)
    for click in clicks:
        if click.zyx[axis] == index:
            row, column = click.zyx[rows], click.zyx[columns]
            row = image.shape[rows] - 1 - row if upside_down else row
            x, y = (column + 0.5) * width / image.shape[columns], (row + 0.5) * height / image.shape[rows]
            _disc(draw, x, y, click.positive, newest=click is clicks[-1])
    return panel


def _edge(region: NDArray[np.bool_], *, beyond: bool) -> NDArray[np.bool_]:
    """Return the pixels of a region within LINE pixels of its edge.

    Args:
        region: bool (h, w).
        beyond: whether the region continues beyond the picture, so that the picture's border is no edge of it.
    """
    height, width = region.shape
    padded = np.pad(region, LINE, constant_values=beyond)
    core = region.copy()
    for dy, dx in _neighbours():
        core &= padded[LINE + dy : LINE + dy + height, LINE + dx : LINE + dx + width]
    return region & ~core


def _neighbours() -> Iterator[tuple[int, int]]:
    span = range(-LINE, LINE + 1)
    return ((dy, dx) for dy in span for dx in span if 0 < dy * dy + dx * dx <= LINE * LINE)


def _disc(draw: ImageDraw.ImageDraw, x: float, y: float, positive: bool, newest: bool) -> None:
    radius = 8 if newest else 6
    colour = POSITIVE if positive else NEGATIVE
    box = (x - radius, y - radius, x + radius, y + radius)
    draw.ellipse(box, fill=colour, outline=WHITE if newest else colour, width=2)
    draw.line((x - 3, y, x + 3, y), fill=WHITE, width=2)
    if positive:
        draw.line((x, y - 3, x, y + 3), fill=WHITE, width=2)


def _text(draw: ImageDraw.ImageDraw, at: tuple[int, int], words: Sequence[tuple[str, Colour]]) -> None:
    """Write words side by side from a corner (x, y), each in its colour, on a dark ground."""
    font = ImageFont.load_default(size=14)
    x, y = at
    for word, colour in words:
        width = draw.textlength(word, font=font)
        draw.rectangle((x - 4, y, x + width + 4, y + 18), fill=(0, 0, 0))
        draw.text((x, y), word, font=font, fill=colour)
        x += int(width) + 8
