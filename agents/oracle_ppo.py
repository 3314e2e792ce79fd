"""Train the oracle clicker ``oracle-ppo-v1`` with PPO from ``oracle-bc-v1``, and measure it on unseen cases.

    python agents/oracle_ppo.py --train --seed 0 --out runs/oracle-0 --init runs/bc-0/weights.safetensors
    python agents/oracle_ppo.py --cases 200 --real ../shared/realdata   # the packaged policy

The agent simulates a user, who sees where the mask errs: at each click it picks one of eight deep points of the errors
(``CandidateClicks``, oracle). Imitation learns the best next click, PPO the clicks that are
best together. A click is worth what it adds to the area under the Dice curve: its gain times the share of the
budget that it lasts, so that returns sum to nAUC.

PPO is that of ``blind_ppo.py``, with another task, another reward and other initial weights.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

import blind_ppo
from command_line import check_arguments, read_shape, run
from paired_test import Contender, measure
from synthfm_agents.candidates.network import CandidateNet
from synthfm_agents.candidates.weights_file import load_policy, save_policy
from synthfm_env.envs.wrappers import VectorCandidateClicks


@dataclass
class Settings(blind_ppo.Settings):
    """Settings of ``blind_ppo.py`` with other numbers of clicks and of candidates tried."""

    clicks: int = 10
    look_ahead: int = 1  # candidates are tried before the first click


class AreaReward(gym.vector.VectorRewardWrapper):
    """Weighs the gain of a click by the share of the budget for which it lasts."""

    used: NDArray[np.float64]  # clicks of each episode

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step the environments, and weigh the gains."""
        budget = self.env.unwrapped.envs[0].max_clicks  # type: ignore[attr-defined]
        used = self.used
        observations, rewards, terminated, truncated, infos = self.env.step(actions)
        self.used = np.where(terminated | truncated, 0, used + 1)
        return observations, rewards * (budget - used) / budget, terminated, truncated, infos

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Start episodes."""
        self.used = np.zeros(self.num_envs)
        return self.env.reset(**kwargs)

    def action_masks(self) -> Any:
        """Return which actions exist, bool (num_envs, k + 1): the last, to stop, only if there is no candidate."""
        masks = self.env.action_masks()  # type: ignore[attr-defined]
        masks[:, -1] = ~masks[:, :-1].any(axis=1)
        return masks


def train(settings: Settings, init: Path | None, out: Path) -> Path:
    """Train a policy; writes weights.safetensors, settings.json and curve.jsonl, returns the path of the weights."""
    # Environments and policy
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    envs = AreaReward(
        VectorCandidateClicks(
            gym.make_vec(
                "synthfm_env:SynthFM/Synthetic3D-v0", num_envs=settings.envs, shape=list(settings.shape),
                recipe=settings.recipe, segmenter=settings.segmenter, max_clicks=settings.clicks, reveal_truth=True,
                autoreset_mode="SameStep", copy=False,
            ),
            k=settings.candidates,
            oracle=True,
            look_ahead=settings.look_ahead,
        )
    )  # fmt: skip
    # Without dropout, so that old and new probabilities compare.
    net = CandidateNet().eval() if init is None else load_policy(init, "oracle")
    optimizer = torch.optim.Adam(net.parameters(), lr=settings.learning_rate, eps=1e-5)
    # PPO: collect whole rollouts, improve, write a line of the curve
    out.mkdir(parents=True, exist_ok=True)
    (out / "settings.json").write_text(json.dumps({**asdict(settings), "init": str(init)}, indent=2) + "\n")
    updates = settings.steps // (settings.envs * settings.rollout)
    observations, _ = envs.reset(seed=settings.seed)
    unfinished = torch.zeros(settings.envs)
    with (out / "curve.jsonl").open("w") as curve:
        for update in range(updates):
            optimizer.param_groups[0]["lr"] = settings.learning_rate * (1 - update / updates)
            batch, observations = blind_ppo.collect(envs, net, observations, settings)
            blind_ppo.improve(net, optimizer, batch, settings, rng)
            nauc = blind_ppo.mean_return(batch, unfinished)
            line = {"clicks": (update + 1) * settings.envs * settings.rollout, "nauc": round(nauc, 4)}
            curve.write(json.dumps(line) + "\n")
            curve.flush()
            print(line, flush=True)
    envs.close()
    save_policy(net, out / "weights.safetensors", "oracle")
    return out / "weights.safetensors"


def main() -> None:
    """Train if asked to, then measure against the rules, imitation and the look-ahead."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", action="store_true", help="train first")
    parser.add_argument("--init", type=Path, help="weights to begin with, as agents/imitation.py writes them")
    parser.add_argument("--out", type=Path, default=Path("runs/oracle-ppo"), help="folder of the training")
    parser.add_argument("--seed", type=int, default=Settings.seed, help="of the training")
    parser.add_argument("--steps", type=int, default=Settings.steps, help="clicks to train with")
    parser.add_argument("--shape", default="24,48,48", help="grid of the synthetic cases, D,H,W")
    parser.add_argument("--segmenter", default=Settings.segmenter, help="to train and to measure with")
    parser.add_argument("--weights", type=Path, help="policy to measure instead of the packaged one")
    parser.add_argument("--cases", type=int, default=0, help="unseen synthetic cases to measure on")
    parser.add_argument("--real", type=Path, help="folder of real cases to measure on too")
    args = parser.parse_args()
    torch.set_num_threads(1)
    check_arguments(args.seed, args.cases, args.real)
    for path in filter(None, (args.init, args.weights)):
        load_policy(path, "oracle")
    settings = Settings(shape=read_shape(args.shape), segmenter=args.segmenter, steps=args.steps, seed=args.seed)
    weights = train(settings, args.init, args.out) if args.train else args.weights
    if args.cases or args.real:
        shared = {"segmenter": args.segmenter}
        ours = Contender("oracle-ppo-v1", {**shared, "weights": weights})
        others = [
            Contender("ritm-3d-v1"),
            Contender("synthfm-mm-v1"),
            Contender("oracle-bc-v1", {**shared, "weights": args.init}),
            Contender("greedy-v1", shared),
        ]
        measure(ours, others, args.segmenter, settings.shape, settings.clicks, args.cases, args.real, "empty")


if __name__ == "__main__":
    run(main)
