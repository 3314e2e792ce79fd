"""Small environments for tests."""

import numpy as np

from synthfm_env import Volume

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
