"""Train the oracle clicker ``oracle-bc-v1`` by behavioural cloning of a look-ahead, and measure it on unseen cases.

    python agents/imitation.py --train --seed 0 --out runs/bc-0
    python agents/imitation.py --train --blind --seed 0 --out runs/blind-bc-0   # where agents/blind_ppo.py begins
    python agents/imitation.py --cases 200 --real ../shared/realdata   # the packaged policy

1. Record: synthetic episodes in which every one of eight candidates (``CandidateClicks``) is tried on the segmenter and
   taken back; the gain in Dice of each is kept. Half of the clicks that are placed are the best ones, half are drawn,
   so that the record holds good and bad states.
2. Clone: the scores of the network learn the gains that the look-ahead measured, less their mean; those of a blind
   policy, which may stop, less the price of a click. The candidate of the best score is the look-ahead's choice.

The oracle looks ahead before its first click alone, so an episode costs eight answers of the segmenter; ``greedy-v1``
asks for nine a click. A blind policy compares the answers to its candidates at every click, without the truth.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from zipfile import BadZipFile

import gymnasium as gym
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from command_line import check_arguments, read_shape, run
from paired_test import Contender, measure
from synthfm_agents.candidates.network import CandidateNet
from synthfm_agents.candidates.weights_file import load_policy, save_policy
from synthfm_env.candidates import FEATURES
from synthfm_env.envs.wrappers import VectorCandidateClicks
from synthfm_env.errors import InputError
from synthfm_env.metrics import dice

TRIED = FEATURES.index("tried")  # features from here on describe answers


@dataclass
class Settings:
    """Settings of a training. With the versions of the packages they determine its result."""

    segmenter: str = "synthfm3d-unet"
    shape: tuple[int, int, int] = (24, 48, 48)
    recipe: str = "any"
    clicks: int = 10
    candidates: int = 8
    blind: bool = False
    episodes: int = 96
    envs: int = 8
    steps: int = 600  # of the optimiser
    batch: int = 128
    learning_rate: float = 2e-3  # falls to 0
    weight_decay: float = 0.05
    unit: float = 0.05  # Dice of one score while fitting
    sharpness: float = 10.0  # scores are multiplied by it afterwards, so that PPO samples the best candidates
    price: float = 0.005  # Dice that a click of a blind policy should gain at least
    seed: int = 0


def record(settings: Settings, out: Path) -> dict[str, NDArray[np.float32]]:
    """Play the episodes; writes and returns features (n, k, FEATURES), and gains (n, k), NaN without a candidate."""
    envs = VectorCandidateClicks(
        gym.make_vec(
            "synthfm_env:SynthFM/Synthetic3D-v0", num_envs=settings.envs, shape=list(settings.shape),
            recipe=settings.recipe, segmenter=settings.segmenter, max_clicks=settings.clicks, reveal_truth=True,
            start="click" if settings.blind else "empty", autoreset_mode="SameStep", copy=False,
        ),
        k=settings.candidates,
        oracle=not settings.blind,
        look_ahead=settings.clicks + 1,
    )  # fmt: skip
    rng = np.random.default_rng(settings.seed)
    features: list[NDArray[np.float32]] = []
    gains: list[NDArray[np.float32]] = []
    # Seeds of trainings do not meet: each has a block of its own below the unseen cases of `paired_test`.
    observations, infos = envs.reset(seed=settings.seed * 1000)
    ended = 0
    while ended < settings.episodes:
        gain = np.full((settings.envs, settings.candidates), np.nan, np.float32)
        for i, masks in enumerate(envs.tried):
            truth = envs.unwrapped.envs[i].truth  # type: ignore[attr-defined]
            gain[i, : len(masks)] = [dice(mask, truth) - infos["dice"][i] for mask in masks]
        known = ~np.isnan(gain).all(axis=1)
        seen = observations["candidates"].copy()
        if not settings.blind:  # the oracle looks ahead before its first click alone
            seen[(observations["clicks"][:, 0, 0] >= 0), :, TRIED:] = 0
        features.extend(seen[known])
        gains.extend(gain[known])
        best = np.nan_to_num(gain, nan=-np.inf).argmax(axis=1)
        drawn = np.where(np.isnan(gain), -1, rng.random(gain.shape)).argmax(axis=1)
        actions = np.where(rng.random(settings.envs) < 0.5, best, drawn)
        observations, _, terminated, truncated, infos = envs.step(np.where(known, actions, settings.candidates))
        ended += int((terminated | truncated).sum())
        # Environments end together, so that the last step may end more episodes than were asked for.
        print(f"{min(ended, settings.episodes)} of {settings.episodes} episodes, {len(gains)} states", flush=True)
    envs.close()
    recorded = {"features": np.array(features, np.float32), "gains": np.array(gains, np.float32)}
    np.savez_compressed(out / "lookahead.npz", features=recorded["features"], gains=recorded["gains"])
    return recorded


def clone(recorded: dict[str, NDArray[np.float32]], settings: Settings, out: Path) -> CandidateNet:
    """Fit the network; writes curve.jsonl with the mean gain of its choices on a tenth of the states, held out."""
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    features, gains = torch.from_numpy(recorded["features"]), torch.from_numpy(recorded["gains"])
    there = ~gains.isnan()
    gains = gains.nan_to_num(0.0)
    # An oracle stops only if there is no candidate, which no recorded state lacks.
    masks = torch.cat([there, torch.full((len(there), 1), settings.blind)], dim=1)
    wanted = (gains - settings.price if settings.blind else gains - mean_over(gains, there)) / settings.unit
    held_out = torch.arange(len(features)) >= len(features) * 9 // 10
    kept = torch.nonzero(~held_out)[:, 0]
    net = CandidateNet()
    optimizer = torch.optim.AdamW(net.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    with (out / "curve.jsonl").open("w") as curve:
        for step in range(settings.steps):
            optimizer.param_groups[0]["lr"] = settings.learning_rate * (1 - step / settings.steps)
            index = kept[torch.from_numpy(rng.integers(len(kept), size=settings.batch))]
            logits, _ = net.train()(features[index], masks[index])
            scores, known = logits[:, :-1], there[index]
            scores = scores - (logits[:, -1:] if settings.blind else mean_over(scores, known))
            losses = F.huber_loss(scores, wanted[index].clamp(-5, 5), reduction="none")
            loss = losses[known].mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step % 100 == 99:
                line = {"step": step + 1, "loss": round(loss.item(), 4)}
                line |= gain_of(net.eval(), features[held_out], masks[held_out], gains[held_out])
                curve.write(json.dumps(line) + "\n")
    print(line)
    net.sharpen(settings.sharpness)
    return net


def mean_over(values: Tensor, there: Tensor) -> Tensor:
    """Return the mean of each row over the candidates that there are, (n, 1)."""
    return (values * there).sum(1, keepdim=True) / there.sum(1, keepdim=True).clamp_min(1)


@torch.no_grad()
def gain_of(net: CandidateNet, features: Tensor, masks: Tensor, gains: Tensor) -> dict[str, float]:
    """Return the mean gains of a network's choices, of the best actions and of the first candidates."""
    choice = net(features, masks)[0].argmax(1, keepdim=True)
    worth = F.pad(gains, (0, 1)).masked_fill(~masks, -torch.inf)
    found = {"gain": worth.gather(1, choice), "best gain": worth.amax(1), "gain of the first candidate": worth[:, 0]}
    return {name: round(values.mean().item(), 4) for name, values in found.items()}


def train(settings: Settings, out: Path, recorded: Path | None) -> Path:
    """Record unless a record is given, and clone; returns the path of the weights."""
    states = None if recorded is None else read_record(recorded)
    out.mkdir(parents=True, exist_ok=True)
    (out / "settings.json").write_text(json.dumps(asdict(settings), indent=2) + "\n")
    states = states or record(settings, out)
    save_policy(clone(states, settings, out), out / "weights.safetensors", "blind" if settings.blind else "oracle")
    return out / "weights.safetensors"


def read_record(path: Path) -> dict[str, NDArray[np.float32]]:
    """Return the states that ``record`` wrote.

    Raises:
        InputError: the file is missing, is no record, or has other features.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            states = {key: file[key] for key in ("features", "gains")}
    except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
        raise InputError(f"--recorded {path}: no record of look-aheads can be read from it ({error})") from None
    if states["features"].ndim != 3 or states["features"].shape[2] != len(FEATURES):
        raise InputError(f"--recorded {path}: recorded with other features; record again")
    return states


def main() -> None:
    """Train if asked to, then measure against the rules and the look-ahead."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", action="store_true", help="train first")
    parser.add_argument(
        "--recorded", type=Path, help="lookahead.npz of an earlier training, to clone without recording"
    )
    parser.add_argument("--blind", action="store_true", help="train a blind policy, from a first click")
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
    check_arguments(given.seed, given.cases, given.real)
    if given.weights is not None:
        load_policy(given.weights, "oracle")
    settings = Settings(
        shape=read_shape(given.shape), segmenter=given.segmenter, episodes=given.episodes, seed=given.seed,
        blind=given.blind, clicks=5 if given.blind else Settings.clicks,
    )  # fmt: skip
    weights = train(settings, given.out, given.recorded) if given.train else given.weights
    if (given.cases or given.real) and not given.blind:  # agents/blind_ppo.py measures blind policies
        ours = Contender("oracle-bc-v1", {"segmenter": given.segmenter, "weights": weights})
        others = [
            Contender("ritm-3d-v1"),
            Contender("synthfm-mm-v1"),
            Contender("greedy-v1", {"segmenter": given.segmenter}),
        ]
        measure(ours, others, given.segmenter, settings.shape, settings.clicks, given.cases, given.real, "empty")


if __name__ == "__main__":
    run(main)
