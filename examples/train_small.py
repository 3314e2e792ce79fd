"""Train a tiny segmenter on synthetic volumes, then play one episode with it.

``python examples/train_small.py [FOLDER]`` takes seconds on one CPU core. It shows the way from a recipe to a mask; the
result is far from useful. ``synthfm train synthfm3d-unet`` runs the full recipe.
"""

import sys
from pathlib import Path

import gymnasium as gym

from synthfm_agents import make_clicker
from synthfm_train.run import train

SMALLER = (
    "widths=[8,16]",
    "pool=2",
    "data.shapes=[[12,32,32]]",
    "data.recipes=['clear']",
    "validation_volumes=2",
    "evaluate_every=10",
    "phases=[{steps=10,grid=[12,16,16],batch=2}]",
)


def main(folder: str = "runs/train-small") -> float:
    """Train, play, and return the last Dice."""
    weights = train("synthfm3d-unet", out=Path(folder), overrides=SMALLER, device="cpu", workers=0)
    env = gym.make(
        "synthfm_env:SynthFM/Synthetic3D-v0",
        shape=[12, 32, 32],
        recipe="clear",
        segmenter=str(weights),
        max_clicks=3,
        reveal_truth=True,
    )
    clicker = make_clicker("ritm-3d-v1")
    observation, info = env.reset(seed=0)
    clicker.reset(seed=0)
    for _ in range(3):
        observation, _, terminated, _, info = env.step(clicker.act(observation, info))
        if terminated:
            break
    env.close()
    print(f"{weights}: Dice {info['dice']:.3f} after {info['clicks_used']} clicks")
    return float(info["dice"])


if __name__ == "__main__":
    main(*sys.argv[1:2])
