"""Clone the clicks of recorded episodes: learn which of an oracle's candidates is nearest to the expert's click.

    synthfm record quick --minari synthfm/quick --segmenter geodesic --clicker ritm-3d-v1 --cases 20
    python examples/behavioural_cloning.py synthfm/quick/synthetic-ritm-3d-v1-v0

Each episode is rebuilt from its seed and its clicks are placed again; before each, candidates are proposed.
"""

import sys

import minari
import numpy as np
import torch
from torch import Tensor

from synthfm_agents.base import clicks_in
from synthfm_agents.candidates.network import CandidateNet
from synthfm_env.candidates import FEATURES, PromptState, oracle_candidates

K = 8  # candidates


def states(name: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return features (n, K, FEATURES), masks (n, K + 1) and the expert's choice (n,), K to stop, of a data set."""
    dataset = minari.load_dataset(name)
    env = dataset.recover_environment().unwrapped  # without the wrapper that packs masks
    features, masks, choices = [], [], []
    for index, episode in enumerate(dataset.iterate_episodes()):
        (about,) = dataset.storage.get_episode_metadata([index])
        observation, _ = env.reset(seed=int(about["seed"]))
        for action in episode.actions:
            z, y, x = observation["spacing"].tolist()
            clicks = clicks_in(observation)
            state = PromptState(observation["image"], observation["mask"] > 0, clicks, (z, y, x), truth=env.truth)
            proposed = oracle_candidates(state, K)
            there = len(proposed.clicks)
            row = np.zeros((K, len(FEATURES)), np.float32)
            row[:there] = proposed.features
            places = np.array([click.zyx for click in proposed.clicks]).reshape(there, 3)
            distances = np.linalg.norm((places - action[:3]) * (z, y, x), axis=1)
            features.append(row)
            masks.append(np.arange(K + 1) < there)
            masks[-1][K] = True
            choices.append(K if action[3] == 2 or not there else int(distances.argmin()))
            observation, *_ = env.step(action)
    return torch.from_numpy(np.array(features)), torch.from_numpy(np.array(masks)), torch.tensor(choices)


def clone(features: Tensor, masks: Tensor, choices: Tensor, steps: int = 300) -> tuple[CandidateNet, float]:
    """Fit the network; returns it and the share of the expert's choices that it makes."""
    torch.manual_seed(0)
    net = CandidateNet()
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    for _ in range(steps):
        loss = torch.nn.functional.cross_entropy(net(features, masks)[0], choices)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        agreement = (net(features, masks)[0].argmax(1) == choices).float().mean().item()
    return net, agreement


if __name__ == "__main__":
    data = states(sys.argv[1])
    print(f"{len(data[0])} clicks; the clone makes {100 * clone(*data)[1]:.0f} % of the expert's choices")
