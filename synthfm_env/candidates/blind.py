"""Proposes clicks from image, mask and logits, without the truth."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from synthfm_env.candidates.distances import (
    MARGIN,
    Spacing,
    border_distances,
    distance_to,
    inner_voxel,
    nearest_value,
)
from synthfm_env.candidates.features import FEATURES, Candidates, describe_candidates, grey_at, image_deviation
from synthfm_env.candidates.prompt_state import PromptState
from synthfm_env.candidates.surroundings import Surroundings
from synthfm_env.error_regions import Voxel, as_voxel
from synthfm_env.geometry import bounding_box
from synthfm_env.prompts import Click


def blind_candidates(state: PromptState, count: int) -> Candidates:
    """Propose clicks from image, mask and logits alone, five kinds in turn.

    1. Grow: positive, outside the mask but near it, of a grey similar to that at the positive clicks.
    2. Cut: negative, in the mask, of a different grey.
    3. Hold: positive, deep in the mask, far from all clicks and of a similar grey.
    4. Wall: negative, just outside the mask, far from all clicks and of a different grey.
    5. Doubt: with either sign, at the logit nearest to 0; without logits at the voxel nearest to the mask's border.

    Greys are means of 3³ voxels, in deviations of the image. Points of one kind keep a third of the mask's radius from
    each other and from the clicks.

    Args:
        state: its truth is not read.
        count: the largest number of candidates, 1 or more.
    """
    # Search in the mask's box and a margin of one radius.
    state = replace(state, truth=None)
    reach = [max(MARGIN, int(np.ceil(state.radius / mm))) for mm in state.spacing]
    box = bounding_box(state.mask, max(reach))
    if box is None:
        return Candidates((), np.zeros((0, len(FEATURES)), np.float32))
    mask, corner = state.mask[box], np.array([side.start for side in box])
    inside, outside = border_distances(mask, state.spacing)
    scores = _scores(state, box, mask, inside, outside)
    # The best voxel of each kind, then the second of each, and so on.
    streams = [_peaks(score, state.spacing, state.least_distance) for score, _ in scores]
    chosen: dict[tuple[Voxel, bool], None] = {}  # keeps the order
    exhausted = False
    while len(chosen) < count and not exhausted:
        exhausted = True
        for stream, (_, signs) in zip(streams, scores, strict=True):
            place = next(stream, None) if len(chosen) < count else None
            if place is not None:
                exhausted = False
                chosen |= dict.fromkeys((as_voxel(np.add(place, corner)), positive) for positive in signs)
    # Features of the candidates; the region of each is the whole mask.
    picked = list(chosen)[:count]
    step = float(max(state.spacing))
    volume = float(np.count_nonzero(mask) * np.prod(state.spacing))
    depths = [float(max(inside[at], outside[at])) for at in (inner_voxel(voxel, corner) for voxel, _ in picked)]
    measures = [(depth, depth / step, volume) for depth in depths]
    border = nearest_value(inside + outside, corner)
    surroundings = Surroundings(state, image_deviation(state.image))
    clicks = [Click(voxel, positive) for voxel, positive in picked]
    return describe_candidates(
        state, clicks, measures, border, 0.0, [(surroundings.mask, 1.0)] * len(clicks), surroundings
    )


def _scores(
    state: PromptState,
    box: tuple[slice, ...],
    mask: NDArray[np.bool_],
    inside: NDArray[np.float32],
    outside: NDArray[np.float32],
) -> tuple[tuple[NDArray[np.floating], tuple[bool, ...]], ...]:
    """Return the score of each voxel of a box, -inf for none, and the signs to click with, for each of the five kinds.

    Args:
        state: of the episode.
        box: of the search.
        mask: bool (d, h, w), in the box.
        inside: distance to the mask's border in mm, of voxels inside.
        outside: the same of voxels outside.
    """
    clicks, radius = [np.subtract(click.zyx, [side.start for side in box]) for click in state.clicks], state.radius
    distance = distance_to(mask.shape, clicks, state.spacing)
    # Distance to the clicks, 0 to 1; -inf for voxels too near to one. All other terms are about as large.
    far = np.where(distance < state.least_distance, -np.inf, np.minimum(distance / radius, 1.0))
    allowed = np.minimum(far, 0)
    depth, gap = np.minimum(inside / radius, 0.5), outside / radius
    difference = _grey_difference(state, box)
    logits = _logits_in(state, box, inside - outside)
    return (
        (np.where(~mask & (gap < 1), allowed - difference - gap, -np.inf), (True,)),
        (np.where(mask, allowed + difference + depth, -np.inf), (False,)),
        (np.where(mask, far + 2 * depth - difference, -np.inf), (True,)),
        (np.where(~mask & (gap < 0.5), far + difference - gap, -np.inf), (False,)),
        (allowed - np.abs(logits), (True, False)),
    )


def _grey_difference(state: PromptState, box: tuple[slice, ...]) -> NDArray[np.float64]:
    """Return the smallest difference of each voxel's grey to those at the positive clicks, at most 2 deviations."""
    deviation = image_deviation(state.image)
    smooth = ndimage.uniform_filter(state.image[box].astype(np.float32), 3, mode="nearest")
    greys = [grey_at(state.image, click.zyx)[0] for click in state.clicks if click.positive]
    if not greys:
        return np.zeros(smooth.shape)
    return np.minimum(np.min([np.abs(smooth - grey) for grey in greys], axis=0) / deviation, 2.0)


def _logits_in(state: PromptState, box: tuple[slice, ...], fallback: NDArray[np.float32]) -> NDArray[np.floating]:
    """Return the logits of a box at the image's resolution, nearest neighbour; ``fallback`` without logits."""
    if state.logits is None:
        return fallback
    cells = [
        np.arange(side.start, side.stop) * have // n
        for side, have, n in zip(box, state.logits.shape, state.mask.shape, strict=True)
    ]
    return np.asarray(state.logits[np.ix_(*cells)])


def _peaks(score: NDArray[np.floating], spacing: Spacing, apart: float) -> Iterator[Voxel]:
    """Yield voxels by falling score, each at least ``apart`` mm from those before, until all scores are -inf."""
    score = score.copy()
    while np.isfinite(best := score.max(initial=-np.inf)):
        place = as_voxel(np.array(np.unravel_index(int(np.argmax(score == best)), score.shape)))
        yield place
        score[distance_to(score.shape, [np.array(place)], spacing) < apart] = -np.inf
        score[place] = -np.inf
