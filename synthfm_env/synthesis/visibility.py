"""Which structures can be told from what is next to them."""

import numpy as np
from numpy.typing import NDArray

from synthfm_env.synthesis.recipe import Style

# What a display shows of each style: its window, and the difference that fills it.
WINDOWS: dict[Style, tuple[float, float]] = {"CT": (-160.0, 240.0), "MR": (0, 1), "US": (0, 1), "other": (0, 1)}
_MOST_SLICES = 16


def border_contrast(
    label: NDArray[np.int16], mean: NDArray[np.float32], texture: NDArray[np.float32], lag: int, style: Style
) -> NDArray[np.float64]:
    """Return for each id 0..N how far both sides of its border differ on average, as a share of the window.

    Voxels ``lag`` apart in the plane are compared on a few slices, by mean intensity and by strength of texture.
    An id that has no border there gets infinity.
    """
    count = int(label.max(initial=0)) + 1
    step = max(1, label.shape[0] // _MOST_SLICES)
    label, mean, texture = label[::step], mean[::step], texture[::step]
    low, high = WINDOWS[style]
    total, pairs = np.zeros(count), np.zeros(count)
    for axis in (1, 2):
        n = label.shape[axis]
        if n <= lag:
            continue
        a = (slice(None),) * axis + (slice(0, n - lag),)
        b = (slice(None),) * axis + (slice(lag, n),)
        at = np.flatnonzero(label[a] != label[b])
        left, right = label[a].reshape(-1)[at], label[b].reshape(-1)[at]
        gap = np.abs(np.clip(mean[b].reshape(-1)[at], low, high) - np.clip(mean[a].reshape(-1)[at], low, high))
        gap += 0.7 * np.abs(np.abs(texture[b].reshape(-1)[at]) - np.abs(texture[a].reshape(-1)[at]))
        for side in (left, right):
            total += np.bincount(side, gap, count)
            pairs += np.bincount(side, minlength=count)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(pairs > 0, total / pairs / (high - low), np.inf)


def without(
    label: NDArray[np.int16], names: dict[int, str], gone: NDArray[np.bool_]
) -> tuple[NDArray[np.int16], dict[int, str]]:
    """Return label and names without the ids for which ``gone`` is true, numbered 1..N again."""
    kept = [i for i in names if i < len(gone) and not gone[i]]
    table = np.zeros(len(gone), np.int16)
    table[kept] = np.arange(1, len(kept) + 1)
    return table[label], {int(table[i]): f"{names[i].rsplit(' ', 1)[0]} {table[i]}" for i in kept}
