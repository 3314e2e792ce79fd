"""Chooses among candidate clicks with trained networks."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from synthfm_agents.base import Clicker, Observation, clicks_in, middle_of
from synthfm_agents.shadow_session import ShadowSession
from synthfm_env.candidates import (
    Candidates,
    PromptState,
    blind_candidates,
    oracle_candidates,
    try_candidates,
    with_answers,
)
from synthfm_env.envs.actions import click_action, stop_action
from synthfm_env.prompts import Click
from synthfm_env.segmenters import Segmenter

if TYPE_CHECKING:
    from synthfm_agents.candidates.network import CandidateNet

CANDIDATES = 8
MANY_CLICKS = 1_000  # more than an episode has


class CandidateClicker(Clicker):
    """Chooses the candidate that a small network scores highest.

    Attributes:
        weights: the packaged file of the network.
        stops: whether it may stop although there is a candidate.
        look_ahead: candidates are tried in a second session while fewer clicks than this are in force.
    """

    weights: ClassVar[str]
    stops: ClassVar[bool] = False
    look_ahead: ClassVar[int] = 0

    def __init__(self, segmenter: str | Segmenter, weights: str | Path | None) -> None:
        self._shadow = ShadowSession(segmenter)
        self._weights = (
            str(weights) if weights is not None else str(files("synthfm_agents") / "candidates" / self.weights)
        )

    @property
    def answers(self) -> int:
        """Number of answers of the second session so far."""
        return self._shadow.answers

    def choose(self, observation: Observation, state: PromptState, candidates: Candidates) -> NDArray[np.int64]:
        """Return the action of the highest score; stop if there is no candidate.

        Stopping has a score only if ``stops`` is set.

        Args:
            observation: the newest one.
            state: of the episode.
            candidates: for that state.
        """
        # Imported here, because torch takes seconds to import and most clickers do not need it.
        import torch

        n = len(candidates.clicks)
        if n == 0:
            return stop_action()
        if len(state.clicks) < self.look_ahead:
            session = self._shadow.follow(observation)
            (masks,) = try_candidates(self._shadow.segmenter, [session], [candidates])
            self._shadow.answers += n
            candidates = with_answers(state, candidates, masks)
        with torch.inference_mode():
            features = torch.from_numpy(candidates.features)[None]
            mask = torch.ones(1, n + 1, dtype=torch.bool)
            mask[:, -1] = self.stops
            logits, _ = _network(self._weights, self.oracle)(features, mask)
        best = int(logits[0].argmax())
        return stop_action() if best == n else click_action(candidates.clicks[best])


class BlindPPO(CandidateClicker):
    """Blind: corrects a first click with candidates from mask and logits, chosen by PPO (``blind-ppo-v1``).

    The candidates are those of ``synthfm_env.candidates.blind_candidates``. The first click is the image's middle. The
    logits come from a second session with the same clicks. Each candidate is tried there and taken back, so the policy
    compares the masks that would follow. A click costs up to nine answers. It draws nothing at random.
    ``agents/blind_ppo.py`` trained it and prints its scores.

    Args:
        segmenter: the segmenter of the environment: a name, a path, or a ``Segmenter``.
        weights: a file that ``agents/blind_ppo.py`` wrote, instead of the packaged one.

    Raises:
        InputError: from ``act``, if weights or segmenter cannot be read, or the weights are an oracle's.
    """

    name: ClassVar[str] = "blind-ppo-v1"
    weights: ClassVar[str] = "blind-ppo-v1.safetensors"
    stops: ClassVar[bool] = True
    look_ahead: ClassVar[int] = MANY_CLICKS

    def __init__(self, segmenter: str | Segmenter = "synthfm3d-unet", weights: str | Path | None = None) -> None:
        super().__init__(segmenter, weights)

    def act(self, observation: Observation, info: Mapping[str, Any]) -> NDArray[np.int64]:
        """Return the click of the best candidate, or stop."""
        clicks = clicks_in(observation)
        if not clicks:
            return click_action(Click(middle_of(observation)))
        self._shadow.follow(observation)
        logits = self._shadow.prediction.logits if self._shadow.prediction is not None else None
        state = _state(observation, clicks, logits, None)
        return self.choose(observation, state, blind_candidates(state, CANDIDATES))


class OraclePPO(CandidateClicker):
    """Oracle: chooses among 8 deep points of the errors, trained with PPO (``oracle-ppo-v1``).

    The candidates are those of ``synthfm_env.candidates.oracle_candidates``. Those of the first click are tried in a
    second session: eight answers an episode. It draws nothing at random. ``agents/oracle_ppo.py`` trained it and
    prints its scores.

    Args:
        segmenter: the segmenter of the environment: a name, a path, or a ``Segmenter``.
        weights: a file that ``agents/oracle_ppo.py`` wrote, instead of the packaged one.

    Raises:
        InputError: from ``act``, if weights or segmenter cannot be read, the weights are a blind policy's, or the
            environment reveals no truth.
    """

    name: ClassVar[str] = "oracle-ppo-v1"
    oracle: ClassVar[bool] = True
    weights: ClassVar[str] = "oracle-ppo-v1.safetensors"
    look_ahead: ClassVar[int] = 1

    def __init__(self, segmenter: str | Segmenter = "synthfm3d-unet", weights: str | Path | None = None) -> None:
        super().__init__(segmenter, weights)

    def act(self, observation: Observation, info: Mapping[str, Any]) -> NDArray[np.int64]:
        """Return the click of the best candidate, or stop."""
        state = _state(observation, clicks_in(observation), None, self.truth(info))
        return self.choose(observation, state, oracle_candidates(state, CANDIDATES))


class OracleImitation(OraclePPO):
    """Oracle: chooses among 8 deep points of the errors as a look-ahead did (``oracle-bc-v1``).

    It has the candidates and the network of ``oracle-ppo-v1``, trained on recorded episodes in which every candidate
    was tried. ``agents/imitation.py`` trained it and prints its scores.

    Args:
        segmenter: as ``oracle-ppo-v1``.
        weights: a file that ``agents/imitation.py`` wrote, instead of the packaged one.

    Raises:
        InputError: as ``oracle-ppo-v1``.
    """

    name: ClassVar[str] = "oracle-bc-v1"
    weights: ClassVar[str] = "oracle-bc-v1.safetensors"


def _state(
    observation: Observation,
    clicks: tuple[Click, ...],
    logits: NDArray[np.float32] | None,
    truth: NDArray[np.bool_] | None,
) -> PromptState:
    z, y, x = (float(size) for size in observation["spacing"])
    left = float((observation["clicks"][:, 0] < 0).mean())
    return PromptState(observation["image"], observation["mask"] != 0, clicks, (z, y, x), logits, left, truth)


@cache
def _network(path: str, oracle: bool) -> "CandidateNet":
    """Return the policy in a weights file, read once."""
    from synthfm_agents.candidates.weights_file import load_policy

    return load_policy(path, "oracle" if oracle else "blind")
