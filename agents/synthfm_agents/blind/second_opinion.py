"""Clicks where the mask differs from the answers of other segmenters to the first click."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from synthfm_agents.base import Clicker, Observation, clicks_in, middle_of
from synthfm_agents.shadow_session import ShadowSession
from synthfm_env.envs.actions import click_action, stop_action
from synthfm_env.error_regions import deepest_voxel, largest_component
from synthfm_env.errors import InputError
from synthfm_env.printable import shown
from synthfm_env.prompts import Click
from synthfm_env.segmenters import Segmenter


class SecondOpinion(Clicker):
    """Blind: corrects the mask towards the answers of other segmenters to the first click (``second-opinion-v1``).

    A second opinion is the opinion of another segmenter: its mask for the first click alone. Later clicks are the
    clicker's own guesses, so the other segmenters do not get them.

    1. The first click is positive, in the middle of the image, unless the episode begins with one.
    2. The mask after the first click and the opinions give the target. A voxel is in the target if more than half of
       the opinions contain it, or if the mask and at least one opinion contain it. With one opinion the target is that
       opinion. The target stays the same for the whole episode.
    3. Missed voxels (in the target, not in the mask) and false ones (in the mask, not in the target) that touch (26
       neighbours) are one region. The largest one, among equals the first in raster order, gets the click, at its voxel
       farthest from its border in mm. Voxels clicked before have distance 0.
    4. The click is positive on a missed voxel and negative on a false one.
    5. It stops if no voxel of the largest region is left to click, and if the target is empty.

    It draws nothing at random. An episode costs one answer of each other segmenter.

    It can gain only if the other segmenters err elsewhere than the one that it corrects. The opinion of the corrected
    segmenter itself is the mask, so that it stops at once.

    Args:
        opinions: the other segmenter: a name, a path or a ``Segmenter``; or several, as a list of ``Segmenter``.

    Raises:
        InputError: an empty list, or something else than these; from ``act``, a segmenter that cannot
            be built.
    """

    name: ClassVar[str] = "second-opinion-v1"

    def __init__(self, opinions: str | Segmenter | Sequence[Segmenter] = "synthfm3d-unet") -> None:
        # A list of names is refused: suites look for commands and files of the user's own in plain names alone.
        if not isinstance(opinions, str | Segmenter) and not _are_segmenters(opinions):
            raise InputError(
                f"clicker {self.name!r} got opinions={shown(opinions)}: expected the name of a segmenter, a Segmenter, "
                "or a list of one Segmenter or more"
            )
        several: Sequence[str | Segmenter] = [opinions] if isinstance(opinions, str | Segmenter) else opinions
        self._shadows = [ShadowSession(segmenter) for segmenter in several]
        self._target: NDArray[np.bool_] | None = None

    @property
    def answers(self) -> int:
        """Number of answers of the other segmenters so far."""
        return sum(shadow.answers for shadow in self._shadows)

    def reset(self, seed: int) -> None:
        """Forget the target, and seed the random generator."""
        super().reset(seed)
        self._target = None

    def act(self, observation: Observation, info: Mapping[str, Any]) -> NDArray[np.int64]:
        """Return the click into the largest region where mask and target differ, or stop."""
        clicks = clicks_in(observation)
        if not clicks:
            return click_action(Click(middle_of(observation)))
        mask = observation["mask"] != 0
        if self._target is None:
            votes = self._votes(observation)
            self._target = (2 * votes > len(self._shadows)) | (mask & (votes > 0))
        if not self._target.any():
            return stop_action()
        z, y, x = (float(size) for size in observation["spacing"])
        region = largest_component(mask ^ self._target)
        deepest = deepest_voxel(region, [click.zyx for click in clicks], (z, y, x))
        if deepest.distance == 0:
            return stop_action()
        return click_action(Click(deepest.zyx, positive=bool(self._target[deepest.zyx])))

    def _votes(self, observation: Observation) -> NDArray[np.int64]:
        """Return the number of opinions that contain each voxel, (D, H, W)."""
        first_click = {**observation, "clicks": observation["clicks"][:1]}
        votes = np.zeros(observation["mask"].shape, dtype=np.int64)
        for shadow in self._shadows:
            shadow.follow(first_click)
            if shadow.prediction is not None:
                votes += shadow.prediction.mask
        return votes


def _are_segmenters(value: object) -> bool:
    """Tell whether a value is a list or tuple of at least one ``Segmenter``."""
    return isinstance(value, list | tuple) and len(value) > 0 and all(isinstance(each, Segmenter) for each in value)
