"""Draws validation clips with their clicks and masks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from synthfm_env.envs.rendering import draw_frame
from synthfm_env.files import atomic_write
from synthfm_env.metrics import dice
from synthfm_env.prompts import Click

_PANEL = 384


@dataclass(frozen=True, slots=True)
class ClipPicture:
    """One object of one clip of T slices, clicked on its first slice.

    Attributes:
        frames: uint8 (T, S, S).
        truth: bool (T, S, S).
        masks: bool (T + 1, S, S): the first slice after one click, the others as tracked from it, and the first
            slice again after all clicks.
        points: float (P, 2), (x, y) of the clicks.
        labels: int (P,), 1 positive, 0 negative.
    """

    frames: NDArray[np.uint8]
    truth: NDArray[np.bool_]
    masks: NDArray[np.bool_]
    points: NDArray[np.floating]
    labels: NDArray[np.integer]


def draw_rows(rows: Sequence[ClipPicture], path: Path) -> None:
    """Draw one line of panels for each clip: truth in blue, mask in orange, clicks as discs, the Dice as a number."""
    lines = [np.concatenate(list(_panels(row)), axis=1) for row in rows]
    path.parent.mkdir(exist_ok=True)
    with atomic_write(path) as file:
        Image.fromarray(np.concatenate(lines)).save(file, format="PNG")


def _panels(row: ClipPicture) -> list[NDArray[np.uint8]]:
    """Return the pictures of one clip, side by side in time."""
    clicks = [
        Click(zyx=(0, int(y), int(x)), positive=bool(label))
        for (x, y), label in zip(row.points, row.labels, strict=True)
    ]
    last = len(row.frames)
    panels = []
    for k, mask in enumerate(row.masks):
        t = k % last  # behind the last slice comes the first one again
        shown = clicks[:1] if k == 0 else clicks if k == last else []
        title = "1 click" if k == 0 else f"{len(clicks)} clicks" if k == last else f"slice +{t}"
        caption = f"{title} {dice(mask, row.truth[t]):.2f}"
        panel = draw_frame(row.frames[t][None], mask[None], row.truth[t][None], shown, (1.0, 1.0, 1.0), caption)
        panels.append(np.array(Image.fromarray(panel).resize((_PANEL, _PANEL), Image.Resampling.LANCZOS)))
    return panels
