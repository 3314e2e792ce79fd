import gymnasium as gym
import numpy as np
import pytest

import synthfm_env
from synthfm_env import Volume, save_volume

BALL = "ball_segmenter:BallSegmenter"
IDS = ["SynthFM/Synthetic3D-v0", "SynthFM/Synthetic2D-v0", "SynthFM/Volume-v0"]
SMALL = {
    "SynthFM/Synthetic3D-v0": {"shape": [12, 32, 32]},
    "SynthFM/Synthetic2D-v0": {"shape": [1, 48, 48]},
}


def small_volume():
    """A volume of two boxes, 1 "box" and 7 "rod", on slices thrice as thick as pixels are wide."""
    label = np.zeros((10, 24, 20), np.int16)
    label[3:8, 6:15, 5:14] = 1
    label[1:9, 18:22, 2:6] = 7
    noise = np.random.default_rng(0).normal(0, 5, label.shape)
    image = (label.astype(np.float32) * 30 + noise).astype(np.float32)
    return Volume(image, label, spacing=(3.0, 1.0, 1.0), case_id="boxes", structures={1: "box", 7: "rod"})


@pytest.fixture
def volume():
    return small_volume()


@pytest.fixture
def make(tmp_path):
    """Return a function that makes an environment of an id on a small grid, with the ball segmenter."""
    made = []

    def make_env(env_id, **kwargs):
        small = SMALL.get(env_id)
        if small is None:
            image, label = tmp_path / "image.nii.gz", tmp_path / "label.nii.gz"
            if not image.exists():
                save_volume(small_volume(), image, label)
            small = {"image": str(image), "label": str(label)}
        made.append(gym.make(env_id, **{**small, "segmenter": BALL, **kwargs}))
        return made[-1]

    assert synthfm_env.__name__  # its import registers the ids
    yield make_env
    for env in made:
        env.close()
