"""Computes the features of candidate clicks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from synthfm_env.candidates.prompt_state import PromptState
from synthfm_env.candidates.surroundings import Surroundings
from synthfm_env.error_regions import Voxel, as_voxel
from synthfm_env.prompts import Click

FEATURES: Final = (
    "sign",
    "depth_mm",
    "depth_voxels",
    "depth_share",
    "region_volume",
    "region_share",
    "from_positive",
    "from_negative",
    "mean_logit",
    "grey_from_positive",
    "grey_from_negative",
    "grey_spread",
    "border_mm",
    "mask_volume",
    "clicks_left",
    "score",
    # Of the structure around it, see ``Surroundings.describe``.
    "grey_from_structure",
    "grey_from_ring",
    "similar_in_region",
    "similar_inside",
    "similar_outside",
    "region_part",
    "structure_depth",
    "from_centre",
    "from_region_centre",
    "region_nearby",
    "contrast",
    "structure_spread",
    "ring_spread",
    "missed",
    "false",
    "roundness",
    "clicks",
    "centred",
    # Of the segmenter's answer to it, see ``with_answers``.
    "tried",
    "overlap",
    "growth",
    "answer_centred",
    "centred_gain",
    "contrast_gain",
    "spread_gain",
    "agreement",
    "agreement_gain",
    "gain",
)
"""Names of the features of a candidate. ``Candidates`` describes each one."""

LIMIT: Final = 16.0
"""Features are clipped to this size."""

_FARTHEST = 4.0  # radii, also the distance to a click that does not exist
_MAX_LOGIT = 8.0  # logits are clipped to this size


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Candidate clicks and their features, best guess first.

    Attributes:
        clicks: the candidates.
        features: float32 (n, len(FEATURES)), a row for each click:

            - sign: 1 positive, -1 negative;
            - depth_mm, depth_voxels: distance to the border of the candidate's region, log(1 + d); the region is the
              error component of an oracle, the mask or what is outside it of a blind candidate; depth_share: the same
              in radii of the structure;
            - region_volume: log10 of its mm³; region_share: of the truth's (blind: the mask's) volume, at most 2;
            - from_positive, from_negative: distance to the nearest click of that sign, in radii, at most 4;
            - mean_logit: over 3³ voxels, -1 to 1 for -8 to 8; without logits, as for all oracles of this project, 1
              inside the mask and -1 outside;
            - grey_from_positive, grey_from_negative: difference of the grey of 3³ voxels to that at the nearest such
              click, in deviations of the image; grey_spread: their deviation, in the same unit;
            - border_mm: oracles: distance to the truth's border, log(1 + d); blind: to the mask's;
            - mask_volume: log10 of its mm³; clicks_left;
            - score: oracles: Dice of the mask; blind: 0.

            The structure is the truth for oracles and the mask for blind candidates. Its ring is two voxels wide:

            - grey_from_structure, grey_from_ring: difference of the grey to their mean, in their deviations, at most 4;
            - similar_in_region, similar_inside: share of the region's and of the structure's voxels of a similar grey,
              half a deviation of the image at most; similar_outside: such voxels outside the structure within 1.5
              radii, as a share of its volume, at most 4;
            - region_part: share of the region among all errors of its sign (blind: 1);
            - structure_depth: depth in the structure, as a share of its largest;
            - from_centre, from_region_centre: distance to the centre of structure and region, in radii, at most 4;
            - region_nearby: share of the region in a ball of half a radius around the candidate;
            - contrast: mean grey of the structure less that of the ring; structure_spread, ring_spread: their
              deviations; in deviations of the image;
            - missed, false: missed and false voxels as shares of the structure, false at most 4 (blind: 0);
            - roundness: largest depth of the structure, in radii; clicks: their number, in fours;
            - centred: depth of the mask at the first positive click, as a share of its largest depth.

            The other features describe the segmenter's answer to the candidate, and are 0 if it was not tried:

            - tried: 1;
            - overlap: Dice of the answer and the present mask; growth: half the logarithm of their volumes' ratio;
            - answer_centred: as centred, of the answer; centred_gain: less that of the present mask;
            - contrast_gain: change of the difference of mean greys inside and around, over both deviations;
              spread_gain: change of the deviation inside, in deviations of the image;
            - agreement: mean Dice of the answer with the mask and the answers to the other candidates; agreement_gain:
              less that of the mask;
            - gain: oracles: ten times the change of Dice, -4 to 4; blind: 0.
    """

    clicks: tuple[Click, ...]
    features: NDArray[np.float32]


def describe_candidates(
    state: PromptState,
    clicks: list[Click],
    measures: list[tuple[float, float, float]],
    border: Callable[[Voxel], float],
    score: float,
    regions: list[tuple[NDArray[np.bool_], float]],
    surroundings: Surroundings,
) -> Candidates:
    """Return clicks as candidates with their features; those of answers are 0 (see ``with_answers``).

    Args:
        state: of the episode.
        clicks: the candidates, best guess first.
        measures: of each candidate: depth in mm, depth in voxels, volume of its region in mm³.
        border: gives a voxel's distance in mm to the border of the truth, or of the mask for blind candidates.
        score: the feature of that name, for all candidates.
        regions: of each candidate: its region in the box of the surroundings, and its share among all of its sign.
        surroundings: of the state.
    """
    # Features that all candidates share.
    voxel_mm3, radius = float(np.prod(state.spacing)), state.radius
    mask_mm3 = np.count_nonzero(state.mask) * voxel_mm3
    whole_mm3 = 4 / 3 * np.pi * radius**3
    deviation = image_deviation(state.image)
    untried = (0.0,) * (len(FEATURES) - FEATURES.index("tried"))
    # One row for each candidate, in the order of FEATURES.
    rows = []
    for click, (depth_mm, depth_voxels, volume), region in zip(clicks, measures, regions, strict=True):
        grey, spread = grey_at(state.image, click.zyx)
        nearest_clicks = [_nearest(state, click.zyx, positive) for positive in (True, False)]
        rows.append(
            (
                1.0 if click.positive else -1.0,
                np.log1p(depth_mm),
                np.log1p(depth_voxels),
                depth_mm / radius,
                np.log10(1 + volume),
                min(volume / whole_mm3, 2.0),
                *(min(distance / radius, _FARTHEST) for distance, _ in nearest_clicks),
                _mean_logit(state, click.zyx),
                *((grey - other) / deviation if other is not None else 0.0 for _, other in nearest_clicks),
                spread / deviation,
                np.log1p(border(click.zyx)),
                np.log10(1 + mask_mm3),
                state.clicks_left,
                score,
                *surroundings.describe(click.zyx, *region),
                *untried,
            )
        )
    features = np.array(rows, np.float32).reshape(len(rows), len(FEATURES))
    return Candidates(tuple(clicks), features.clip(-LIMIT, LIMIT))


def _around(voxel: Voxel, shape: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(max(0, i - 1), min(n, i + 2)) for i, n in zip(voxel, shape, strict=True))


def image_deviation(image: NDArray[np.uint8]) -> float:
    """Return the standard deviation of an image's grey levels, at least 4: the unit of differences of grey."""
    return max(float(image[::2, ::2, ::2].std()), 4.0)


def grey_at(image: NDArray[np.uint8], voxel: Voxel) -> tuple[float, float]:
    """Return mean and standard deviation of the grey levels of the 3³ voxels around a voxel."""
    part = image[_around(voxel, image.shape)]
    return float(part.mean()), float(part.std())


def _nearest(state: PromptState, voxel: Voxel, positive: bool) -> tuple[float, float | None]:
    """Return the distance in mm to the nearest click of a sign and the grey there; infinity and None without one."""
    distances = [
        (float(np.linalg.norm(np.subtract(click.zyx, voxel) * state.spacing)), click.zyx)
        for click in state.clicks
        if click.positive is positive
    ]
    if not distances:
        return np.inf, None
    distance, nearest = min(distances)
    return distance, grey_at(state.image, nearest)[0]


def _mean_logit(state: PromptState, voxel: Voxel) -> float:
    if state.logits is None:
        return 1.0 if state.mask[voxel] else -1.0
    cell = as_voxel(np.array(voxel) * state.logits.shape // np.array(state.mask.shape))
    mean = float(state.logits[_around(cell, state.logits.shape)].mean())
    return float(np.clip(mean, -_MAX_LOGIT, _MAX_LOGIT)) / _MAX_LOGIT
