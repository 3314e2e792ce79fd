"""Clicks on the voxel whose logit is nearest to 0."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from synthfm_agents.base import Clicker, Observation, clicks_in, middle_of
from synthfm_agents.shadow_session import ShadowSession
from synthfm_env.envs.actions import click_action, stop_action
from synthfm_env.errors import InputError
from synthfm_env.prompts import Click
from synthfm_env.segmenters import Segmenter


class UncertainClicker(Clicker):
    """Blind: the voxel whose logit is nearest to 0, with the sign of that logit.

    The first click is positive, in the middle of the image. Each further click goes to the voxel whose logit is
    nearest to 0, among equals the first in raster order, no voxel twice. It is positive if the logit is above 0,
    because a blind clicker has no better information than the segmenter's own sign. A logit on a coarser grid stands
    for the voxel in the middle of its cell. It draws nothing at random.

    The logits come from a second session, so each click is answered twice.

    Args:
        segmenter: the one that the environment plays with: a name, a path, or a ``Segmenter`` with logits.

    Raises:
        InputError: from ``act``, if the segmenter has no logits or cannot be built.
    """

    name: ClassVar[str] = "uncertain"

    def __init__(self, segmenter: str | Segmenter = "synthfm3d-nano") -> None:
        self._shadow = ShadowSession(segmenter)

    @property
    def answers(self) -> int:
        """Number of answers of the second session so far."""
        return self._shadow.answers

    def act(self, observation: Observation, info: Mapping[str, Any]) -> NDArray[np.int64]:
        """Return the click into the least certain voxel, or stop if all have been clicked."""
        self._shadow.follow(observation)
        if self._shadow.prediction is None:
            return click_action(Click(middle_of(observation)))
        logits = self._shadow.prediction.logits
        if logits is None:
            raise InputError(
                f"clicker {self.name!r} needs logits, and segmenter {self._shadow.segmenter.name!r} has none: "
                "give it one that has, as make_clicker('uncertain', segmenter=...)"
            )
        _, height, width = observation["image"].shape
        rows, columns = _middles(logits.shape[1], height), _middles(logits.shape[2], width)
        # Logits by distance to 0; clicked voxels are excluded.
        doubt = np.abs(logits)
        for click in clicks_in(observation):
            z, y, x = click.zyx
            doubt[z, (rows == y)[:, None] & (columns == x)] = np.inf
        z, row, column = (int(i) for i in np.unravel_index(int(doubt.argmin()), doubt.shape))
        if np.isinf(doubt[z, row, column]):
            return stop_action()
        voxel = (z, int(rows[row]), int(columns[column]))
        return click_action(Click(voxel, positive=bool(logits[z, row, column] > 0)))


def _middles(cells: int, voxels: int) -> NDArray[np.int64]:
    """Return the voxel in the middle of each of the cells that divide an axis."""
    return np.floor((np.arange(cells) + 0.5) * voxels / cells).astype(np.int64)
