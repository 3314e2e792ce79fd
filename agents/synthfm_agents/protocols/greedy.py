"""Tries candidate clicks on a segmenter and places the best one."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from synthfm_agents.base import Clicker, Observation, clicks_in
from synthfm_agents.protocols.ritm_3d import deeper_of
from synthfm_agents.shadow_session import ShadowSession
from synthfm_env.envs.actions import click_action, stop_action
from synthfm_env.error_regions import as_voxel, deepest_voxel
from synthfm_env.errors import InputError
from synthfm_env.metrics import dice
from synthfm_env.prompts import Click
from synthfm_env.segmenters import Segmenter


class Greedy(Clicker):
    """Oracle: tries some clicks on a session of its own, and places the one of best Dice.

    1. The candidates are the click of ``ritm-3d-v1``, if there is one, and different voxels drawn uniformly from the
       error, ``candidates`` in all. Their sign is the truth at the voxel.
    2. Each is tried and taken back. The one whose mask has the highest Dice is placed; among equals the first.
    3. It stops on a perfect mask, and if even the best candidate would lower the Dice.

    It estimates the highest Dice that clicks can reach with a segmenter, since no user can try clicks in this way. It
    looks one click ahead, so the estimate is no strict bound. Every click costs ``candidates`` answers and one more.

    Args:
        segmenter: the segmenter of the environment: a name, a path, or a ``Segmenter``.
        candidates: number of clicks to try, 1 or more.

    Raises:
        InputError: fewer than one candidate; from ``act``, a segmenter that cannot be built.
    """

    name: ClassVar[str] = "greedy-v1"
    oracle: ClassVar[bool] = True

    def __init__(self, segmenter: str | Segmenter = "synthfm3d-nano", candidates: int = 8) -> None:
        if candidates < 1:
            raise InputError(f"clicker {self.name!r} got candidates={candidates}: expected 1 or more")
        self._shadow = ShadowSession(segmenter)
        self._candidates = candidates

    @property
    def answers(self) -> int:
        """Number of answers of its own session so far."""
        return self._shadow.answers

    def act(self, observation: Observation, info: Mapping[str, Any]) -> NDArray[np.int64]:
        """Return the best of the clicks tried, or stop."""
        truth, mask = self.truth(info), observation["mask"] != 0
        candidates = self._draw(truth, mask, [click.zyx for click in clicks_in(observation)])
        if not candidates:
            return stop_action()
        session = self._shadow.follow(observation)
        scores = []
        for click in candidates:
            scores.append(dice(session.add(click).mask, truth))
            session.undo()
        self._shadow.answers += len(candidates)
        best = int(np.argmax(scores))
        return stop_action() if scores[best] < dice(mask, truth) else click_action(candidates[best])

    def _draw(
        self, truth: NDArray[np.bool_], mask: NDArray[np.bool_], clicked: list[tuple[int, int, int]]
    ) -> list[Click]:
        """Return the clicks to try: that of ``ritm-3d-v1``, then voxels drawn from the error."""
        first = deeper_of(deepest_voxel(truth & ~mask, clicked), deepest_voxel(mask & ~truth, clicked))
        candidates = [] if first is None else [first]
        wrong = np.argwhere(truth != mask)
        count = min(self._candidates - len(candidates), len(wrong))
        for place in wrong[self.rng.choice(len(wrong), count, replace=False)] if count else ():
            voxel = as_voxel(place)
            candidates.append(Click(voxel, positive=bool(truth[voxel])))
        return candidates
