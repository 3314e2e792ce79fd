"""Draw the README's picture: one synthetic episode after 1, 3 and 5 clicks.

``python docs/make_picture.py`` writes ``docs/images/episode.png``.
"""

from pathlib import Path

import gymnasium as gym
import numpy as np
from PIL import Image

import synthfm_env  # noqa: F401 - registers the environments
from synthfm_agents import make_clicker

SEED = 14
SHOWN = (1, 3, 5)
TARGET = Path(__file__).parent / "images" / "episode.png"


def main() -> None:
    """Play the episode and write the picture."""
    env = gym.make(
        "SynthFM/Synthetic3D-v0", shape=(32, 128, 128), reveal_truth=True, render_mode="rgb_array", max_clicks=5
    )
    clicker = make_clicker("ritm-3d-v1")
    clicker.reset(SEED)
    observation, info = env.reset(seed=SEED)
    pictures = []
    for click in range(1, 6):
        observation, _, terminated, _, info = env.step(clicker.act(observation, info))
        if click in SHOWN or terminated:
            pictures.append(np.asarray(env.render()))
        if terminated:
            break
    width = max(picture.shape[1] for picture in pictures)
    rows = [np.pad(p, ((0, 8), (0, width - p.shape[1]), (0, 0)), constant_values=255) for p in pictures]
    TARGET.parent.mkdir(exist_ok=True)
    Image.fromarray(np.concatenate(rows)).save(TARGET, optimize=True)


if __name__ == "__main__":
    main()
