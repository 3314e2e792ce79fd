"""Computes the features of candidate clicks that come from the segmenter's answers to them."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from synthfm_env.candidates.features import FEATURES, Candidates, image_deviation
from synthfm_env.candidates.prompt_state import PromptState
from synthfm_env.candidates.surroundings import RING, centring, contrast_of
from synthfm_env.error_regions import as_voxel
from synthfm_env.geometry import bounding_box
from synthfm_env.metrics import dice
from synthfm_env.segmenters.base import Segmenter, Session

_FIRST = FEATURES.index("tried")


def try_candidates(
    segmenter: Segmenter, sessions: Sequence[Session], candidates: Sequence[Candidates]
) -> list[list[NDArray[np.bool_]]]:
    """Return the masks that sessions answer to their candidates; every click is taken back.

    The first candidates of all sessions are one batch for the segmenter, then the second ones, and so on.

    Args:
        segmenter: of the sessions.
        sessions: of several episodes.
        candidates: of each session.
    """
    masks: list[list[NDArray[np.bool_]]] = [[] for _ in sessions]
    for rank in range(max((len(each.clicks) for each in candidates), default=0)):
        batch = [i for i, each in enumerate(candidates) if rank < len(each.clicks)]
        answers = segmenter.add_many([sessions[i] for i in batch], [candidates[i].clicks[rank] for i in batch])
        for i, answer in zip(batch, answers, strict=True):
            masks[i].append(answer.mask)
            sessions[i].undo()
    return masks


def with_answers(state: PromptState, candidates: Candidates, masks: Sequence[NDArray[np.bool_]]) -> Candidates:
    """Return candidates with the features of the segmenter's answers to them.

    Args:
        state: of the episode.
        candidates: for that state.
        masks: bool (D, H, W), the answer to each candidate.
    """
    features = candidates.features.copy()
    features[:, _FIRST:] = answer_features(state, masks)
    return replace(candidates, features=features)


def answer_features(state: PromptState, masks: Sequence[NDArray[np.bool_]]) -> NDArray[np.float32]:
    """Return the features of answers, float32 (n, number of features from "tried" on)."""
    # All masks in one box.
    union = np.logical_or.reduce([state.mask, *masks])
    box = bounding_box(union, RING + 1)
    rows = np.zeros((len(masks), len(FEATURES) - _FIRST), np.float32)
    rows[:, 0] = 1.0
    if box is None:
        return rows
    corner = [side.start for side in box]
    image = state.image[box].astype(np.float32)
    answers = [mask[box] for mask in (state.mask, *masks)]
    # Overlap of each answer with the present mask and with the other answers.
    shared = np.array([[np.count_nonzero(one & other) for other in answers] for one in answers])
    sizes = shared.diagonal()
    overlaps = 2 * shared / np.maximum(sizes[:, None] + sizes, 1)
    agreement = (overlaps.sum(1) - overlaps.diagonal()) / max(len(answers) - 1, 1)
    # How well each mask is centred on the first click, and stands out from its surroundings.
    first = next((click.zyx for click in state.clicks if click.positive), None)
    inner = None if first is None else as_voxel(np.subtract(first, corner))
    within = inner is not None and all(0 <= i < n for i, n in zip(inner, image.shape, strict=True))
    deviation = image_deviation(state.image)
    measured = []
    for answer in answers:
        mean, spread, around, around_spread = contrast_of(image, answer)
        stands_out = abs(mean - around) / (spread + around_spread + 4)
        centred = centring(answer, inner, state) if inner is not None and within else 0.0
        measured.append((centred, stands_out, spread / deviation))
    # Row of each answer, in the order of FEATURES; gains are differences to the present mask.
    before = dice(state.mask, state.truth) if state.truth is not None else 0.0
    for i, mask in enumerate(masks, start=1):
        rows[i - 1, 1:] = (
            overlaps[0, i],
            np.log((sizes[i] + 1) / (sizes[0] + 1)) / 2,
            measured[i][0],
            *np.subtract(measured[i], measured[0]),
            agreement[i],
            agreement[i] - agreement[0],
            10 * (dice(mask, state.truth) - before) if state.truth is not None else 0.0,
        )
    return rows.clip(-4, 4)
