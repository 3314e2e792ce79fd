"""Train the blind clicker ``blind-ppo-v1`` with PPO, and measure it on unseen cases.

    python agents/imitation.py --train --blind --seed 0 --out runs/blind-bc-0
    python agents/blind_ppo.py --train --init runs/blind-bc-0/weights.safetensors --seed 0 --out runs/blind-0
    python agents/blind_ppo.py --weights runs/blind-0/weights.safetensors --cases 200
    python agents/blind_ppo.py --cases 200 --real ../shared/realdata  # the packaged policy, on real cases too

The task: an episode begins with one click, the deepest voxel of a structure (``start="click"``); five further clicks
may correct the segmenter's mask, and nobody tells the agent where it errs. It picks one of eight candidates, or stops:
see ``CandidateClicks``. The segmenter answers each candidate beforehand, and the agent compares the masks that would
follow. A click is worth what it adds to Dice.

All of it is in this file but the network (``synthfm_agents/candidates/network.py``): PPO (Schulman et al., 2017) as
CleanRL writes it, with masked actions (Huang and Ontanon, 2022), on a vector environment whose segmenter answers all
clicks of a step as one batch.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor
from torch.distributions import Categorical

from command_line import check_arguments, read_shape, run
from paired_test import Contender, measure
from synthfm_agents.candidates.network import CandidateNet
from synthfm_agents.candidates.weights_file import load_policy, save_policy
from synthfm_env.envs.wrappers import VectorCandidateClicks


@dataclass
class Settings:
    """Settings of a training. With the versions of the packages they determine its result."""

    segmenter: str = "synthfm3d-unet"
    shape: tuple[int, int, int] = (24, 48, 48)
    recipe: str = "any"
    clicks: int = 5
    candidates: int = 8
    look_ahead: int = 6  # candidates are tried at every click, the start click is one of six
    steps: int = 512  # clicks in all
    envs: int = 8
    rollout: int = 32  # steps of each environment between updates
    epochs: int = 6
    minibatches: int = 4
    learning_rate: float = 5e-4  # falls to 0
    entropy: float = 0.003
    clip: float = 0.2
    gae_lambda: float = 0.95  # nothing is discounted: an episode has five clicks
    seed: int = 0


def train(settings: Settings, init: Path | None, out: Path) -> Path:
    """Train a policy, from weights of ``imitation.py`` if there are any.

    Writes weights.safetensors, settings.json and curve.jsonl, returns the path of the weights.
    """
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    envs = VectorCandidateClicks(
        gym.make_vec(
            "synthfm_env:SynthFM/Synthetic3D-v0", num_envs=settings.envs, shape=list(settings.shape),
            recipe=settings.recipe, segmenter=settings.segmenter, start="click", max_clicks=settings.clicks,
            autoreset_mode="SameStep", copy=False,
        ),
        k=settings.candidates,
        look_ahead=settings.look_ahead,
    )  # fmt: skip
    # Without dropout, so that old and new probabilities compare.
    net = CandidateNet().eval() if init is None else load_policy(init, "blind")
    optimizer = torch.optim.Adam(net.parameters(), lr=settings.learning_rate, eps=1e-5)
    out.mkdir(parents=True, exist_ok=True)
    (out / "settings.json").write_text(json.dumps({**asdict(settings), "init": str(init)}, indent=2) + "\n")
    updates = settings.steps // (settings.envs * settings.rollout)
    observations, _ = envs.reset(seed=settings.seed)
    unfinished = torch.zeros(settings.envs)
    with (out / "curve.jsonl").open("w") as curve:
        for update in range(updates):
            optimizer.param_groups[0]["lr"] = settings.learning_rate * (1 - update / updates)
            batch, observations = collect(envs, net, observations, settings)
            improve(net, optimizer, batch, settings, rng)
            gain = mean_return(batch, unfinished)
            line = {"clicks": (update + 1) * settings.envs * settings.rollout, "gain": round(gain, 4)}
            curve.write(json.dumps(line) + "\n")
            curve.flush()
            print(line, flush=True)
    envs.close()
    save_policy(net, out / "weights.safetensors", "blind")
    return out / "weights.safetensors"


def collect(
    envs: Any, net: CandidateNet, observations: dict[str, np.ndarray], settings: Settings
) -> tuple[dict[str, Tensor], dict[str, np.ndarray]]:
    """Play some steps with the policy; returns them as tensors (rollout, envs, ...) and the newest observations.

    Args:
        envs: ``VectorCandidateClicks``, or a wrapper around it with ``action_masks``.
        net: the policy.
        observations: of the step before.
        settings: of the training.
    """
    kept: dict[str, list[Tensor]] = {
        key: [] for key in ("features", "masks", "actions", "logps", "values", "rewards", "ends")
    }
    for _ in range(settings.rollout):
        features = torch.from_numpy(observations["candidates"].copy())
        mask = torch.from_numpy(envs.action_masks())
        with torch.no_grad():
            logits, value = net(features, mask)
        policy = Categorical(logits=logits)
        action = policy.sample()
        observations, reward, terminated, truncated, _ = envs.step(action.numpy())
        new = (features, mask, action, policy.log_prob(action), value)
        ends = torch.from_numpy((terminated | truncated).astype(np.float32))
        for key, tensor in zip(kept, (*new, torch.from_numpy(reward.astype(np.float32)), ends), strict=True):
            kept[key].append(tensor)
    batch = {key: torch.stack(tensors) for key, tensors in kept.items()}
    with torch.no_grad():
        _, last = net(torch.from_numpy(observations["candidates"].copy()), torch.from_numpy(envs.action_masks()))
    # Generalised advantage estimation, backwards in time; an episode's end cuts it off.
    advantage, following = torch.zeros(settings.envs), last
    advantages = torch.zeros_like(batch["rewards"])
    for t in reversed(range(settings.rollout)):
        going = 1 - batch["ends"][t]
        delta = batch["rewards"][t] + following * going - batch["values"][t]
        advantage = delta + settings.gae_lambda * going * advantage
        advantages[t], following = advantage, batch["values"][t]
    return {**batch, "advantages": advantages, "returns": advantages + batch["values"]}, observations


def mean_return(batch: dict[str, Tensor], unfinished: Tensor) -> float:
    """Return the mean return of the episodes that ended in a batch.

    Args:
        batch: from ``collect``.
        unfinished: (envs,), what each running episode has returned so far; it is brought up to date.
    """
    returns: list[float] = []
    for rewards, ends in zip(batch["rewards"], batch["ends"] > 0, strict=True):
        unfinished += rewards
        returns += unfinished[ends].tolist()
        unfinished[ends] = 0
    return float(np.mean(returns)) if returns else 0.0


def improve(
    net: CandidateNet,
    optimizer: torch.optim.Optimizer,
    batch: dict[str, Tensor],
    settings: Settings,
    rng: np.random.Generator,
) -> None:
    """Take PPO's steps on a batch."""
    flat = {key: tensor.flatten(0, 1) for key, tensor in batch.items()}
    for _ in range(settings.epochs):
        for index in np.array_split(rng.permutation(len(flat["actions"])), settings.minibatches):
            part = {key: tensor[index] for key, tensor in flat.items()}
            logits, value = net(part["features"], part["masks"])
            policy = Categorical(logits=logits)
            ratio = (policy.log_prob(part["actions"]) - part["logps"]).exp()
            advantage = (part["advantages"] - part["advantages"].mean()) / (part["advantages"].std() + 1e-6)
            clipped = ratio.clamp(1 - settings.clip, 1 + settings.clip)
            loss = (
                -torch.minimum(ratio * advantage, clipped * advantage).mean()
                + 0.5 * (value - part["returns"]).square().mean()
                - settings.entropy * policy.entropy().mean()
            )
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 0.5)
            optimizer.step()


def main() -> None:
    """Train if asked to, then measure against stopping, ``uncertain`` and ``random``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", action="store_true", help="train first")
    parser.add_argument("--init", type=Path, help="weights to begin with, as agents/imitation.py --blind writes them")
    parser.add_argument("--out", type=Path, default=Path("runs/blind-ppo"), help="folder of the training")
    parser.add_argument("--seed", type=int, default=Settings.seed, help="of the training")
    parser.add_argument("--steps", type=int, default=Settings.steps, help="clicks to train with")
    parser.add_argument("--shape", default="24,48,48", help="grid of the synthetic cases, D,H,W")
    parser.add_argument("--segmenter", default=Settings.segmenter, help="to train and to measure with")
    parser.add_argument("--weights", type=Path, help="policy to measure instead of the packaged one")
    parser.add_argument("--cases", type=int, default=0, help="unseen synthetic cases to measure on")
    parser.add_argument("--real", type=Path, help="folder of real cases to measure on too")
    given = parser.parse_args()
    torch.set_num_threads(1)
    check_arguments(given.seed, given.cases, given.real)
    for path in filter(None, (given.init, given.weights)):
        load_policy(path, "blind")
    settings = Settings(shape=read_shape(given.shape), segmenter=given.segmenter, steps=given.steps, seed=given.seed)
    weights = train(settings, given.init, given.out) if given.train else given.weights
    if given.cases or given.real:
        asks = {"segmenter": given.segmenter}
        ours = Contender("blind-ppo-v1", {**asks, "weights": weights})
        others = [Contender("stop"), Contender("random")]
        if given.segmenter != "geodesic":  # which has no logits
            others.append(Contender("uncertain", asks))
        measure(ours, others, given.segmenter, settings.shape, settings.clicks, given.cases, given.real, "click")


if __name__ == "__main__":
    run(main)
