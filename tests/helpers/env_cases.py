"""Provides small environments for tests."""

import numpy as np

from synthfm_env import Volume, save_volume

BALL = "ball_segmenter:BallSegmenter"
IDS = ["SynthFM/Synthetic3D-v0", "SynthFM/Synthetic2D-v0", "SynthFM/Dataset-v0", "SynthFM/Volume-v0"]
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


def small_dataset(folder, cases=3):
    """Write volumes like ``small_volume``, each moved otherwise, into nnU-Net's folders; returns the folder."""
    if folder.exists():
        return folder
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for number in range(cases):
        volume = small_volume()
        image, label = (np.roll(array, number, axis=1) for array in (volume.image, volume.label))
        moved = Volume(image, label, volume.spacing, case_id=f"case{number}")
        save_volume(moved, folder / f"imagesTr/case{number}_0000.nii.gz", folder / f"labelsTr/case{number}.nii.gz")
    return folder


def rollout(env, seed, steps=12):
    """All that an environment returns when driven at random over several episodes."""
    env.action_space.seed(seed)
    returned = [env.reset(seed=seed)]
    for _ in range(steps):
        returned.append(env.step(env.action_space.sample()))
        if returned[-1][2] or returned[-1][3]:
            returned.append(env.reset())
    return returned
