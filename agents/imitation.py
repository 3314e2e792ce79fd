"""Train the oracle clicker ``oracle-bc-v1`` by behavioural cloning of a look-ahead, and measure it on unseen cases.

    python agents/imitation.py --train --seed 0 --out runs/bc-0
    python agents/imitation.py --cases 200 --real ../shared/realdata   # the packaged policy

1. Record: synthetic episodes in which every one of eight candidates (``CandidateClicks``, oracle) is tried on the
   segmenter and taken back; the gain in Dice of each is kept. Half of the clicks that are placed are the best ones,
   half are drawn, so that the record holds good and bad states.
2. Clone: the network learns the distribution ``softmax(gain / temperature)`` over the candidates: the look-ahead's
   choice, softened if candidates are worth about the same.

It costs a look-ahead in training only: the clicker asks no model. ``greedy-v1`` asks one nine times a click.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from paired_test import Contender, measure
from synthfm_agents.candidates.network import CandidateNet
from synthfm_env.candidates import FEATURES
from synthfm_env.envs.prompt_env import PromptEnv
from synthfm_env.envs.wrappers import CandidateClicks
from synthfm_env.metrics import dice
from synthfm_env.prompts import Click


@dataclass
class Settings:
    """Settings of a training. With the versions of the packages they determine its result."""

    segmenter: str = "synthfm3d-unet"
    shape: tuple[int, int, int] = (24, 48, 48)
    recipe: str = "any"
    clicks: int = 10
    candidates: int = 8
    episodes: int = 100
    steps: int = 1500  # of the optimiser
    batch: int = 128
    learning_rate: float = 2e-3  # falls to 0
    temperature: float = 0.02  # Dice
    seed: int = 0


def record(settings: Settings, out: Path) -> dict[str, NDArray[np.float32]]:
    """Play the episodes; writes and returns features (n, k, FEATURES), and gains (n, k), NaN without a candidate."""
    env = CandidateClicks(
        gym.make(
            "synthfm_env:SynthFM/Synthetic3D-v0", shape=list(settings.shape), recipe=settings.recipe,
            segmenter=settings.segmenter, max_clicks=settings.clicks, reveal_truth=True, disable_env_checker=True,
        ),
        k=settings.candidates,
        oracle=True,
    )  # fmt: skip
    inner, rng = env.unwrapped, np.random.default_rng(settings.seed)
    assert isinstance(inner, PromptEnv)
    features, gains = [], []
    for episode in range(settings.episodes):
        # Seeds of trainings do not meet: each has a block of its own below the unseen cases of `paired_test`.
        observation, info = env.reset(seed=settings.seed * 1000 + episode)
        ended = False
        while not ended:
            gain = np.full(settings.candidates, np.nan, np.float32)
            for i, (z, y, x, sign) in enumerate(observation["candidate_clicks"].tolist()):
                if z >= 0:
                    gain[i] = dice(inner.session.add(Click((z, y, x), bool(sign))).mask, inner.truth) - info["dice"]
                    inner.session.undo()
            if np.isnan(gain).all():
                break
            features.append(observation["candidates"])
            gains.append(gain)
            known = np.flatnonzero(~np.isnan(gain))
            action = int(np.nanargmax(gain)) if rng.random() < 0.5 else int(rng.choice(known))
            observation, _, terminated, truncated, info = env.step(action)
            ended = terminated or truncated
        print(f"episode {episode + 1} of {settings.episodes}, {len(gains)} states", flush=True)
    env.close()
    recorded = {"features": np.array(features, np.float32), "gains": np.array(gains, np.float32)}
    np.savez_compressed(out / "lookahead.npz", features=recorded["features"], gains=recorded["gains"])
    return recorded


def clone(recorded: dict[str, NDArray[np.float32]], settings: Settings, out: Path) -> CandidateNet:
    """Fit the network; writes curve.jsonl with the mean gain of its choices on a tenth of the states, held out."""
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    features = torch.from_numpy(recorded["features"])
    # An oracle stops only if there is no candidate, which no recorded state lacks.
    gains = torch.nn.functional.pad(torch.from_numpy(recorded["gains"]), (0, 1), value=torch.nan)
    masks = ~gains.isnan()
    worth = gains.nan_to_num(-1e9)
    wanted = torch.softmax(worth / settings.temperature, dim=1)
    assert features.shape[2] == len(FEATURES), "recorded with other features: record again"
    held_out = torch.arange(len(features)) >= len(features) * 9 // 10
    kept = torch.nonzero(~held_out)[:, 0]
    net = CandidateNet()
    optimizer = torch.optim.AdamW(net.parameters(), lr=settings.learning_rate, weight_decay=1e-2)
    with (out / "curve.jsonl").open("w") as curve:
        for step in range(settings.steps):
            optimizer.param_groups[0]["lr"] = settings.learning_rate * (1 - step / settings.steps)
            index = kept[torch.from_numpy(rng.integers(len(kept), size=settings.batch))]
            logits, _ = net(features[index], masks[index])
            loss = -(wanted[index] * torch.log_softmax(logits, dim=1)).sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step % 100 == 99:
                with torch.no_grad():
                    choice = net(features[held_out], masks[held_out])[0].argmax(1, keepdim=True)
                gain = worth[held_out].gather(1, choice).mean().item()
                best, first = worth[held_out].amax(1).mean().item(), worth[held_out, 0].mean().item()
                line = {"step": step + 1, "loss": round(loss.item(), 4), "gain": round(gain, 4)}
                line |= {"best gain": round(best, 4), "gain of synthfm-mm-v1": round(first, 4)}
                curve.write(json.dumps(line) + "\n")
    print(line)
    return net


def train(settings: Settings, out: Path, recorded: Path | None) -> Path:
    """Record unless a record is given, and clone; returns the path of the weights."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "settings.json").write_text(json.dumps(asdict(settings), indent=2) + "\n")
    states = dict(np.load(recorded, allow_pickle=False)) if recorded else record(settings, out)
    save_file(clone(states, settings, out).state_dict(), out / "weights.safetensors")
    return out / "weights.safetensors"


def main() -> None:
    """Train if asked to, then measure against the rules and the look-ahead."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", action="store_true", help="train first")
    parser.add_argument(
        "--recorded", type=Path, help="lookahead.npz of an earlier training, to clone without recording"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/imitation"), help="folder of the training")
    parser.add_argument("--seed", type=int, default=Settings.seed, help="of the training")
    parser.add_argument("--episodes", type=int, default=Settings.episodes, help="to record")
    parser.add_argument("--shape", default="24,48,48", help="grid of the synthetic cases, D,H,W")
    parser.add_argument("--segmenter", default=Settings.segmenter, help="to train and to measure with")
    parser.add_argument("--weights", type=Path, help="policy to measure instead of the packaged one")
    parser.add_argument("--cases", type=int, default=0, help="unseen synthetic cases to measure on")
    parser.add_argument("--real", type=Path, help="folder of real cases to measure on too")
    given = parser.parse_args()
    torch.set_num_threads(1)
    depth, height, width = (int(n) for n in given.shape.split(","))
    settings = Settings(
        shape=(depth, height, width), segmenter=given.segmenter, episodes=given.episodes, seed=given.seed
    )
    weights = train(settings, given.out, given.recorded) if given.train else given.weights
    if given.cases or given.real:
        ours = Contender("oracle-bc-v1", {"weights": weights})
        others = [
            Contender("ritm-3d-v1"),
            Contender("synthfm-mm-v1"),
            Contender("greedy-v1", {"segmenter": given.segmenter}),
        ]
        measure(ours, others, given.segmenter, settings.shape, settings.clicks, given.cases, given.real, "empty")


if __name__ == "__main__":
    main()
