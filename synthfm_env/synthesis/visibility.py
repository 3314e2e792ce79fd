"""Selects structures with enough contrast to their surroundings."""

import numpy as np
from numpy.typing import NDArray

from synthfm_env.synthesis.recipe import Style

# Display window of each style.
WINDOWS: dict[Style, tuple[float, float]] = {"CT": (-160.0, 240.0), "MR": (0, 1), "US": (0, 1), "other": (0, 1)}
_MOST_SLICES = 16  # slices that are measured


def border_contrast(
    label: NDArray[np.int16], mean: NDArray[np.float32], texture: NDArray[np.float32], lag: int, style: Style
) -> NDArray[np.float64]:
    """Return the mean contrast at the border of each structure 0..N, as a share of the display window.

    Contrast is the difference of two voxels ``lag`` pixels apart in the plane on both sides of the border, in mean
    intensity and in strength of texture. A structure without a border on the measured slices has infinite contrast.
    """
    count = int(label.max(initial=0)) + 1
    step = max(1, label.shape[0] // _MOST_SLICES)
    height, width = label.shape[1:]
    label, mean, texture = label[::step].reshape(-1), mean[::step].reshape(-1), texture[::step].reshape(-1)
    low, high = WINDOWS[style]
    total, pairs = np.zeros(count), np.zeros(count)
    for axis, shift in ((1, lag * width), (2, lag)):
        # Pairs with different labels; none that wraps around into another row or slice.
        at = np.flatnonzero(label[:-shift] != label[shift:])
        at = at[at % (height * width) < (height - lag) * width] if axis == 1 else at[at % width < width - lag]
        left, right = label[at], label[at + shift]
        gap = np.abs(np.clip(mean[at + shift], low, high) - np.clip(mean[at], low, high))
        gap += 0.7 * np.abs(np.abs(texture[at + shift]) - np.abs(texture[at]))
        for side in (left, right):
            total += np.bincount(side, gap, count)
            pairs += np.bincount(side, minlength=count)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(pairs > 0, total / pairs / (high - low), np.inf)


def without_structures(
    label: NDArray[np.int16], names: dict[int, str], dropped: NDArray[np.bool_]
) -> tuple[NDArray[np.int16], dict[int, str]]:
    """Return label map and names without the ids for which ``dropped`` is True, renumbered 1..N."""
    kept = [i for i in names if i < len(dropped) and not dropped[i]]
    table = np.zeros(len(dropped), np.int16)
    table[kept] = np.arange(1, len(kept) + 1)
    return table.take(label), {int(table[i]): f"{names[i].rsplit(' ', 1)[0]} {table[i]}" for i in kept}
