"""A clicker of your own: a blind one that clicks bright places far from its earlier clicks.

``python examples/own_clicker.py`` checks it. From the folder of this file,
``synthfm bench quick --clicker own_clicker:BrightPlaces`` plays it.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from synthfm_agents import Clicker
from synthfm_agents.base import Observation, clicks_in
from synthfm_agents.testing import check_clicker
from synthfm_env import Click
from synthfm_env.envs.actions import click_action, stop_action

BLUR_MM = 2.0
APART_MM = 10.0
LARGEST_SHARE = 0.3  # of the image: a mask larger than this ends the episode


class BrightPlaces(Clicker):
    """Blind: the brightest voxel of the blurred image, 10 mm or more from every earlier click; stops on large masks."""

    name: ClassVar[str] = "bright-places"

    def act(self, observation: Observation, info: Mapping[str, Any]) -> NDArray[np.int64]:
        """Return z, y, x and 0 negative, 1 positive, 2 stop."""
        if observation["mask"].mean() > LARGEST_SHARE:
            return stop_action()
        spacing = observation["spacing"].astype(float)
        image = observation["image"]
        bright = ndimage.gaussian_filter(image.astype(float), BLUR_MM / spacing)
        places = np.moveaxis(np.indices(image.shape), 0, -1) * spacing
        for click in clicks_in(observation):
            distance = np.linalg.norm(places - np.array(click.zyx) * spacing, axis=-1)
            bright[distance < APART_MM] = -np.inf
        z, y, x = np.unravel_index(bright.argmax(), bright.shape)
        return click_action(Click((int(z), int(y), int(x)), positive=True))


if __name__ == "__main__":
    check_clicker(BrightPlaces())
    print("keeps the contract of a clicker")
