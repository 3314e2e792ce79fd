"""Train PPO with a network of your own, in torch alone.

``python examples/ppo.py [UPDATES]``: an oracle learns which deep point of the errors to click first. Two updates take
seconds and show the way; the return grows over the next minutes.
"""

import sys

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Categorical

from synthfm_env.candidates import FEATURES
from synthfm_env.envs.wrappers import VectorCandidateClicks

ENVS, STEPS, CANDIDATES = 8, 20, 8


class Policy(nn.Module):
    """Scores each candidate by its features, and stopping by their mean; the last output is the value."""

    def __init__(self) -> None:
        super().__init__()
        n = len(FEATURES)
        self.candidate = nn.Sequential(nn.Linear(n, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1))
        self.whole = nn.Sequential(nn.Linear(n, 64), nn.Tanh(), nn.Linear(64, 2))

    def forward(self, features: Tensor, mask: Tensor) -> tuple[Categorical, Tensor]:
        """Return the policy and the value, (n,), of features (n, k, 44) and action masks (n, k + 1)."""
        whole = self.whole(features.mean(1))
        logits = torch.cat([self.candidate(features)[..., 0], whole[:, :1]], 1)
        return Categorical(logits=logits.masked_fill(~mask, -1e9)), whole[:, 1]


def main(updates: int = 2) -> None:
    """Train, and print the mean return of the episodes that ended in each update."""
    torch.manual_seed(0)
    envs = VectorCandidateClicks(
        gym.make_vec(
            "synthfm_env:SynthFM/Synthetic3D-v0",
            num_envs=ENVS,
            shape=[8, 32, 32],
            segmenter="geodesic",
            max_clicks=5,
            reveal_truth=True,  # an oracle's candidates come from the truth
            autoreset_mode="SameStep",  # the step that ends an episode returns the next one's first observation
        ),
        k=CANDIDATES,
        oracle=True,
    )
    policy = Policy()
    optimizer = torch.optim.Adam(policy.parameters(), lr=1e-3)
    observations, _ = envs.reset(seed=0)
    running = np.zeros(ENVS)  # returns of the running episodes so far
    for update in range(updates):
        # 1. Play.
        rows: list[tuple[Tensor, ...]] = []
        ended: list[float] = []
        for _ in range(STEPS):
            features, mask = torch.from_numpy(observations["candidates"]), torch.from_numpy(envs.action_masks())
            with torch.no_grad():
                choice, value = policy(features, mask)
            action = choice.sample()
            observations, reward, terminated, truncated, _ = envs.step(action.numpy())
            ends = terminated | truncated
            going = torch.from_numpy(~ends)
            rows.append((features, mask, action, choice.log_prob(action), value, torch.tensor(reward).float(), going))
            running += reward
            ended += running[ends].tolist()
            running[ends] = 0
        # 2. Advantages, backwards in time; an episode's end cuts them off, and the value stands for the steps to come.
        features, mask, action, before, values, rewards, going = (
            torch.stack(column) for column in zip(*rows, strict=True)
        )
        with torch.no_grad():
            following = policy(torch.from_numpy(observations["candidates"]), torch.from_numpy(envs.action_masks()))[1]
        advantages, advantage = torch.zeros_like(rewards), torch.zeros(ENVS)
        for t in reversed(range(STEPS)):
            advantage = rewards[t] + going[t] * (following + 0.95 * advantage) - values[t]
            advantages[t], following = advantage, values[t]
        returns = (advantages + values).flatten()
        scaled = ((advantages - advantages.mean()) / (advantages.std() + 1e-6)).flatten()
        features, mask, action, before = (part.flatten(0, 1) for part in (features, mask, action, before))
        # 3. Improve.
        for _ in range(6):
            for part in torch.randperm(len(action)).chunk(4):
                choice, value = policy(features[part], mask[part])
                ratio = (choice.log_prob(action[part]) - before[part]).exp()
                gain = torch.minimum(ratio * scaled[part], ratio.clamp(0.8, 1.2) * scaled[part]).mean()
                loss = 0.5 * (value - returns[part]).square().mean() - gain - 0.01 * choice.entropy().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        print(f"update {update + 1}: mean return {sum(ended) / max(len(ended), 1):.3f} of {len(ended)} episodes")
    envs.close()


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:2]))
