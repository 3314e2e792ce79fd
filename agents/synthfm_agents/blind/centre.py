"""Clicks once, on the middle of the image."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from synthfm_agents.base import Clicker, Observation, clicks_in, middle_of
from synthfm_env.envs.actions import click_action, stop_action
from synthfm_env.prompts import Click


class CentreClicker(Clicker):
    """Blind: one positive click in the middle of the image, then it stops.

    Measures how much a data set gives away if its structures are in the middle. Along an axis of even length the
    click goes to the second of the two middle voxels.
    """

    name: ClassVar[str] = "centre"

    def act(self, observation: Observation, info: Mapping[str, Any]) -> NDArray[np.int64]:
        """Return the click, or stop if it has been placed."""
        return stop_action() if clicks_in(observation) else click_action(Click(middle_of(observation)))
