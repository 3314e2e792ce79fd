"""Proposes candidate clicks to environments, and translates the number of a candidate into an action."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from synthfm_env.arguments import check_flag, check_whole
from synthfm_env.candidates import (
    FEATURES,
    LIMIT,
    Candidates,
    PromptState,
    blind_candidates,
    oracle_candidates,
    try_candidates,
    with_answers,
)
from synthfm_env.envs.actions import click_action, stop_action
from synthfm_env.envs.prompt_env import PromptEnv
from synthfm_env.errors import InputError
from synthfm_env.memory_limit import check_memory
from synthfm_env.prompts import Click

_log = logging.getLogger(__name__)

_BYTES_PER_FEATURE = 16  # of the space's bounds and of an observation


class CandidateProposer:
    """Proposes candidates to environments that share their spaces.

    Args:
        k: how many candidates at most, 1 or more.
        oracle: whether they come from the errors of the mask.
        look_ahead: they are tried while fewer clicks than this are in force; 0 for never.
        env: one of the environments.

    Raises:
        InputError: `k` below 1, `look_ahead` below 0, an argument of another type, or no truth for an oracle.
    """

    def __init__(self, k: int, oracle: bool, look_ahead: int, env: PromptEnv) -> None:
        check_whole(k, "k", 1, "a number of candidates")
        check_memory(k * len(FEATURES) * _BYTES_PER_FEATURE, f"k={k}: the table of features")
        check_whole(look_ahead, "look_ahead", 0, "a number of clicks")
        check_flag(oracle, "oracle")
        if oracle and not env.reveal_truth:
            raise InputError("oracle=True needs the truth: make the environment with reveal_truth=True")
        self._k, self._oracle, self._look_ahead = k, oracle, look_ahead
        self._shape = tuple(int(n) for n in env.action_space.nvec[:3])

    def spaces(self) -> dict[str, spaces.Space[Any]]:
        """Return the spaces of the keys that the observation gets."""
        last = np.array([*(n - 1 for n in self._shape), 1], dtype=np.int32)
        rows = np.tile(last, (self._k, 1))
        return {
            "candidates": spaces.Box(-LIMIT, LIMIT, (self._k, len(FEATURES)), np.float32),
            "candidate_clicks": spaces.Box(np.int32(-1), rows, (self._k, 4), np.int32),
        }

    def observation(self, candidates: Candidates) -> dict[str, NDArray[Any]]:
        """Return the keys that the observation gets: features and clicks, padded to ``k`` rows."""
        n = len(candidates.clicks)
        features = np.zeros((self._k, len(FEATURES)), np.float32)
        features[:n] = candidates.features
        clicks = np.full((self._k, 4), -1, np.int32)
        if n:
            clicks[:n] = [(*click.zyx, click.positive) for click in candidates.clicks]
        return {"candidates": features, "candidate_clicks": clicks}

    def propose(
        self, envs: Sequence[PromptEnv], observations: Sequence[dict[str, Any]]
    ) -> tuple[list[Candidates], list[list[NDArray[np.bool_]]]]:
        """Return each environment's candidates, and the masks that answer those that were tried.

        Args:
            envs: environments that share their segmenter.
            observations: the present observation of each.
        """
        states = [self._state(env, observation) for env, observation in zip(envs, observations, strict=True)]
        proposed = [self._candidates(state) for state in states]
        answers: list[list[NDArray[np.bool_]]] = [[] for _ in envs]
        tries_ahead = [i for i, env in enumerate(envs) if env.is_running and len(states[i].clicks) < self._look_ahead]
        tried = _try_together([envs[i] for i in tries_ahead], [proposed[i] for i in tries_ahead])
        for i, masks in zip(tries_ahead, tried, strict=True):
            if masks is not None:
                proposed[i], answers[i] = with_answers(states[i], proposed[i], masks), masks
        return proposed, answers

    def _state(self, env: PromptEnv, observation: dict[str, Any]) -> PromptState:
        """Return what candidates are computed from: with the truth for an oracle, else with the logits."""
        rows = observation["clicks"]
        clicks = tuple(Click((z, y, x), bool(sign)) for z, y, x, sign in rows.tolist() if z >= 0)
        mask = observation["mask"].view(bool)
        z, y, x = (float(mm) for mm in observation["spacing"])
        return PromptState(
            observation["image"],
            mask,
            clicks,
            (z, y, x),
            env.prediction.logits if env.prediction is not None and not self._oracle else None,
            float((rows[:, 0] < 0).mean()),
            env.truth if self._oracle else None,
        )

    def _candidates(self, state: PromptState) -> Candidates:
        """Return at most ``k`` candidates, at least one for a blind agent."""
        if self._oracle:
            return oracle_candidates(state, self._k)
        proposed = blind_candidates(state, self._k)
        if proposed.clicks:
            return proposed
        # Without a mask there is nothing to choose from: the middle of the image, described by its first feature alone.
        depth, height, width = state.mask.shape
        middle = Click((depth // 2, height // 2, width // 2))
        return Candidates((middle,), np.array([[1.0, *[0.0] * (len(FEATURES) - 1)]], np.float32))


def _try_together(envs: Sequence[PromptEnv], proposed: Sequence[Candidates]) -> list[list[NDArray[np.bool_]] | None]:
    """Return the segmenter's masks for each environment's candidates; None for one that it fails on alone."""
    if not envs:
        return []
    try:
        return [*try_candidates(envs[0].segmenter, [env.session for env in envs], proposed)]
    except Exception:  # the step that places a click will record the failure
        _log.debug("the segmenter failed on a candidate", exc_info=True)
    if len(envs) == 1:
        return [None]
    # One environment's failure must not change what the others observe, so each tries alone.
    return [_try_together([env], [candidates])[0] for env, candidates in zip(envs, proposed, strict=True)]


def action_of(candidates: Candidates, action: Any, k: int) -> NDArray[np.int64]:
    """Return the environment's action, int64 (4,), for the number of a candidate; a number without candidate stops.

    Args:
        candidates: those of the present step.
        action: the number, 0 to ``k``.
        k: how many candidates at most.

    Raises:
        InputError: the number is not from 0 to ``k``.
    """
    number = int(action) if np.ndim(action) == 0 and np.issubdtype(np.asarray(action).dtype, np.integer) else -1
    if not 0 <= number <= k:
        raise InputError(f"env.step() got action {action!r}: expected the number of a candidate, or {k} to stop")
    return click_action(candidates.clicks[number]) if number < len(candidates.clicks) else stop_action()


def action_mask(candidates: Candidates, k: int) -> NDArray[np.bool_]:
    """Return which numbers have a candidate, bool (k + 1,); ``k``, to stop, always counts."""
    mask = np.arange(k + 1) < len(candidates.clicks)
    mask[k] = True
    return mask
