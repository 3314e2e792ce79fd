"""Play one episode on a synthetic volume and print the Dice after each click.

``python examples/one_episode.py [SEGMENTER]``, with a name from ``synthfm list segmenters``.
"""

import sys

import gymnasium as gym

from synthfm_agents import make_clicker


def main(segmenter: str = "geodesic") -> float:
    """Play the episode and return the last Dice."""
    env = gym.make(
        "synthfm_env:SynthFM/Synthetic3D-v0",
        shape=[16, 64, 64],
        segmenter=segmenter,
        max_clicks=5,
        reveal_truth=True,  # the clicker below is an oracle: it needs the truth in `info`
    )
    clicker = make_clicker("ritm-3d-v1")
    observation, info = env.reset(seed=3)
    clicker.reset(seed=3)
    ended = False
    while not ended:
        action = clicker.act(observation, info)  # z, y, x and 0 negative, 1 positive, 2 stop
        observation, reward, terminated, truncated, info = env.step(action)
        print(f"click {info['clicks_used']} at {action[:3]}: Dice {info['dice']:.3f}, reward {reward:+.3f}")
        ended = terminated or truncated
    env.close()
    return float(info["dice"])


if __name__ == "__main__":
    main(*sys.argv[1:2])
