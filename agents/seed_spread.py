"""Compare training seeds of the oracle imitation policy with each other and with the rules, on the same unseen cases.

    for seed in 1 2 3 4; do python agents/imitation.py --train --seed $seed --episodes 64 --out runs/bc-$seed; done
    python agents/seed_spread.py runs/bc-*/weights.safetensors --cases 200 --real ../shared/realdata

The packaged policy is seed 0. A table holds the mean nAUC of each seed and of the rules; below it are mean and standard
deviation over seeds, and their mean's lead over each rule with an interval over cases (BCa bootstrap of paired
differences). Synthetic cases are played in blocks, whose clicks the segmenter answers as one batch; real cases have
different shapes and are played one by one.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.stats import bootstrap

from command_line import check_arguments, read_shape, run
from paired_test import UNSEEN, Contender, play_real
from synthfm_agents import Clicker
from synthfm_agents.candidates.network import CandidateNet
from synthfm_agents.candidates.weights_file import load_policy
from synthfm_env import Segmenter, make_segmenter
from synthfm_env.envs.wrappers import VectorCandidateClicks

PACKAGED = "seed 0, packaged"
RULES = ("ritm-3d-v1", "synthfm-mm-v1")
CLICKS, CANDIDATES, BLOCK = 10, 8, 20

Choose = Callable[[Any, dict[str, Any]], NDArray[np.int64]]


def play_policies(
    segmenter: Segmenter, shape: tuple[int, int, int], cases: int, policies: Sequence[CandidateNet]
) -> list[list[float]]:
    """Return the nAUC of each policy in each synthetic case.

    The candidates of a first click, and the answers to them, are the same for all policies, so they are asked for once.

    Args:
        segmenter: answers the clicks.
        shape: grid (D, H, W).
        cases: their number, a multiple of the block's size.
        policies: that choose among candidates.
    """
    envs = _make(segmenter, shape)
    looking = VectorCandidateClicks(envs, k=CANDIDATES, oracle=True, look_ahead=1)
    plain = VectorCandidateClicks(envs, k=CANDIDATES, oracle=True)
    scores: list[list[float]] = [[] for _ in policies]
    for first in track(range(UNSEEN, UNSEEN + cases, BLOCK), "policies, synthetic"):
        seeds: Any = list(range(first, first + BLOCK))
        tried = looking.reset(seed=seeds)[0]["candidates"]
        for policy, found in zip(policies, scores, strict=True):
            start, infos = plain.reset(seed=seeds)
            choose = partial(_choose_candidates, policy, plain)
            found += _play_block(plain, {**start, "candidates": tried}, infos, choose)
    envs.close()
    return scores


def play_rule(segmenter: Segmenter, shape: tuple[int, int, int], cases: int, rule: Contender) -> list[float]:
    """Return the nAUC of a rule in each synthetic case; see ``play_policies``."""
    envs, clickers, scores = _make(segmenter, shape), [rule.make() for _ in range(BLOCK)], list[float]()
    for first in range(UNSEEN, UNSEEN + cases, BLOCK):
        seeds: Any = list(range(first, first + BLOCK))
        for clicker, seed in zip(clickers, seeds, strict=True):
            clicker.reset(seed)
        scores += _play_block(envs, *envs.reset(seed=seeds), partial(_choose_clicks, clickers))
    envs.close()
    return scores


def _make(segmenter: Segmenter, shape: tuple[int, int, int]) -> gym.vector.VectorEnv[Any, Any, Any]:
    return gym.make_vec(
        "synthfm_env:SynthFM/Synthetic3D-v0", num_envs=BLOCK, shape=list(shape), segmenter=segmenter,
        max_clicks=CLICKS, reveal_truth=True, workers=0,
    )  # fmt: skip


def _play_block(envs: Any, observations: Any, infos: dict[str, Any], choose: Choose) -> list[float]:
    """Play the episodes that were just reset to their end; returns the nAUC of each."""
    curves: list[list[float]] = [[] for _ in range(BLOCK)]
    running = np.ones(BLOCK, dtype=bool)
    while running.any():
        observations, _, terminated, truncated, infos = envs.step(choose(observations, infos))
        for i in np.flatnonzero(running):
            if infos["outcome"][i] != "stopped":
                curves[i].append(float(infos["dice"][i]))
            if terminated[i] or truncated[i]:
                running[i] = False
                curves[i] += [float(infos["dice"][i])] * (CLICKS - len(curves[i]))
    return [float(np.mean(curve)) for curve in curves]


def _choose_candidates(
    policy: CandidateNet, envs: VectorCandidateClicks, observations: dict[str, Any], infos: dict[str, Any]
) -> NDArray[np.int64]:
    masks = torch.from_numpy(envs.action_masks())
    masks[:, -1] = ~masks[:, :-1].any(1)  # it stops only if there is no candidate
    with torch.inference_mode():
        logits, _ = policy(torch.from_numpy(observations["candidates"]), masks)
    chosen: NDArray[np.int64] = logits.argmax(1).numpy()
    return chosen


def _choose_clicks(
    clickers: Sequence[Clicker], observations: dict[str, Any], infos: dict[str, Any]
) -> NDArray[np.int64]:
    return np.array(
        [
            clicker.act({key: rows[i] for key, rows in observations.items()}, {"truth": infos["truth"][i]})
            for i, clicker in enumerate(clickers)
        ]
    )


def report(title: str, scores: dict[str, list[float]]) -> None:
    """Print the mean of each contender, the spread over seeds, and their mean's lead over each rule."""
    table = Table(title=f"{title} (n = {len(next(iter(scores.values())))}): nAUC")
    table.add_column("clicker")
    table.add_column("mean")
    for name, values in scores.items():
        table.add_row(name, f"{np.mean(values):.3f}")
    Console(width=100).print(table)
    seeds = np.array([values for name, values in scores.items() if name not in RULES])
    means = seeds.mean(1)
    print(f"{len(means)} seeds: mean {means.mean():.4f}, standard deviation {means.std(ddof=1):.4f}", end=", ")
    print(f"lowest {means.min():.4f}, highest {means.max():.4f}")
    for rule in RULES:
        leads = seeds - np.array(scores[rule])
        low, high = bootstrap((leads.mean(0),), np.mean, rng=0, method="BCa").confidence_interval
        each = ", ".join(f"{lead:+.3f}" for lead in leads.mean(1))
        print(f"lead over {rule}: {leads.mean():+.3f} ({low:+.3f} to {high:+.3f}); of each seed: {each}")


def main() -> None:
    """Play and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, nargs="+", help="of trainings, to compare with the packaged policy")
    parser.add_argument("--cases", type=int, default=200, help=f"synthetic cases, a multiple of {BLOCK}")
    parser.add_argument("--shape", default="24,48,48", help="grid of the synthetic cases, D,H,W")
    parser.add_argument("--segmenter", default="synthfm3d-unet", help="that answers the clicks")
    parser.add_argument("--real", type=Path, help="folder of real cases to measure on too")
    parser.add_argument("--out", type=Path, default=Path("runs/seed-spread.json"), help="file for the scores")
    given = parser.parse_args()
    if given.cases % BLOCK:
        parser.error(f"--cases {given.cases}: expected a multiple of {BLOCK}")
    torch.set_num_threads(1)
    check_arguments(cases=given.cases, real=given.real)
    size = read_shape(given.shape)
    segmenter = make_segmenter(given.segmenter)
    policies: dict[str, Path | None] = {PACKAGED: None, **{str(path): path for path in given.weights}}
    contenders = {
        name: Contender("oracle-bc-v1", {"segmenter": segmenter, "weights": path}) for name, path in policies.items()
    } | {name: Contender(name) for name in RULES}
    nets = [_network(path) for path in policies.values()]
    found: dict[str, dict[str, list[float]]] = {}
    if given.cases:
        played = play_policies(segmenter, size, given.cases, nets)
        found["synthetic cases"] = dict(zip(policies, played, strict=True)) | {
            name: play_rule(segmenter, size, given.cases, Contender(name)) for name in RULES
        }
    if given.real is not None:
        rows = play_real(
            given.real,
            [contender.make() for contender in contenders.values()],
            {"segmenter": segmenter, "max_clicks": CLICKS, "reveal_truth": True},
        )
        found["real cases"] = {name: [row[i].nauc for row in rows] for i, name in enumerate(contenders)}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(found) + "\n")
    for title, scores in found.items():
        report(title, scores)


def _network(weights: Path | None) -> CandidateNet:
    packaged = Path(__file__).parent / "synthfm_agents" / "candidates" / "oracle-bc-v1.safetensors"
    return load_policy(weights or packaged, "oracle")


if __name__ == "__main__":
    run(main)
