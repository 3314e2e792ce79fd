"""Compares click protocols on the same error maps and on the same cases.

    python benchmarks/studies/protocols.py

prints the two tables of docs/experiments/2026-11-click-protocols.md. The error maps are smooth random shapes whose
mask is shifted by up to a voxel, leaks and has holes, with slices 2.5 mm apart at 1 mm pixels. The cases are synthetic
volumes, played with the geodesic segmenter, which needs no weights. All draws follow from fixed seeds.
"""

import argparse
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from scipy import ndimage

import synthfm_env  # noqa: F401 - registers the envs
from synthfm_agents import Clicker, list_protocols, make_clicker
from synthfm_env.envs.actions import POSITIVE, STOP
from synthfm_env.metrics import dice, normalised_auc

REFERENCE = "ritm-3d-v1"
SEGMENTER = "geodesic"
SPACING = (2.5, 1.0, 1.0)
MAP_SHAPE = (24, 64, 64)
REACH = 4  # voxels
CASE_SHAPE = [16, 48, 48]
BOUNDS = ("random", "centre", "greedy-v1")

_Mask = NDArray[np.bool_]


def error_map(seed: int) -> tuple[_Mask, _Mask]:
    """Return a truth and a mask with mistakes, bool (24, 64, 64)."""
    rng = np.random.default_rng(seed)
    truth = _blob(rng, sigma=6.0, share=0.1)
    shifted = np.roll(truth, rng.integers(-1, 2, 3), axis=(0, 1, 2))
    near = ndimage.binary_dilation(truth, iterations=REACH)
    return truth, shifted ^ (near & _blob(rng, sigma=3.0, share=0.15))


def _blob(rng: np.random.Generator, sigma: float, share: float) -> _Mask:
    smooth = ndimage.gaussian_filter(rng.standard_normal(MAP_SHAPE), np.divide(sigma, SPACING))
    return np.asarray(smooth > np.quantile(smooth, 1 - share))


def first_clicks(clicker: Clicker, maps: int) -> Iterator[tuple[int, ...]]:
    """Yield the action of a clicker on each error map, no click placed before."""
    for seed in range(maps):
        truth, mask = error_map(seed)
        observation: dict[str, NDArray[Any]] = {
            "image": np.zeros(MAP_SHAPE, np.uint8),
            "mask": mask.astype(np.uint8),
            "clicks": np.full((10, 4), -1, np.int32),
            "spacing": np.array(SPACING, np.float32),
        }
        clicker.reset(seed)
        yield tuple(clicker.act(observation, {"truth": truth}).tolist())


def agreement_table(maps: int) -> Iterator[str]:
    """Yield the lines of the table of agreement with the reference on error maps."""
    yield "| Protocol | same sign | same voxel | mm apart: median | 90th percentile | no click |"
    yield "|---|---|---|---|---|---|"
    reference = list(first_clicks(make_clicker(REFERENCE), maps))
    for name in track(list_protocols(), "Error maps", console=_console()):
        clicks = list(first_clicks(make_clicker(name), maps))
        pairs = [(a, b) for a, b in zip(clicks, reference, strict=True) if a[3] != STOP]
        equal = np.mean([a == b for a, b in pairs])
        same = np.mean([a[3] == b[3] for a, b in pairs])
        apart = [float(np.linalg.norm(np.subtract(a[:3], b[:3]) * SPACING)) for a, b in pairs]
        middle, far = np.percentile(apart, [50, 90])
        yield f"| `{name}` | {same:.0%} | {equal:.0%} | {middle:.1f} | {far:.1f} | {maps - len(pairs)}/{maps} |"


def play(clicker: Clicker, cases: int, clicks: int) -> Iterator[list[float]]:
    """Yield the Dice after each click of each case; an episode that stops early keeps its last."""
    env = gym.make(
        "SynthFM/Synthetic3D-v0", shape=CASE_SHAPE, segmenter=SEGMENTER, max_clicks=clicks, reveal_truth=True
    )
    for seed in range(cases):
        observation, info = env.reset(seed=seed)
        clicker.reset(seed)
        scores: list[float] = []
        while info["outcome"] == "running":
            observation, _, _, _, info = env.step(clicker.act(observation, info))
            if info["outcome"] != "stopped":
                scores.append(info["dice"])
        yield scores
    env.close()


def score_table(cases: int, clicks: int) -> Iterator[str]:
    """Yield the lines of the table of scores on synthetic cases."""
    yield f"| Clicker | nAUC ± standard error | Dice after click 1 | after click {clicks} | clicks used |"
    yield "|---|---|---|---|---|"
    for name in track((*list_protocols(), *BOUNDS), "Synthetic cases", console=_console()):
        clicker = make_clicker(name, segmenter=SEGMENTER) if name == "greedy-v1" else make_clicker(name)
        played = list(play(clicker, cases, clicks))
        used = np.mean([len(scores) for scores in played])
        filled = np.array([_filled(scores, clicks) for scores in played])
        areas = np.array([normalised_auc(scores) for scores in filled])
        error = areas.std(ddof=1) / cases**0.5
        first, last = filled[:, 0].mean(), filled[:, -1].mean()
        yield f"| `{name}` | {areas.mean():.3f} ± {error:.3f} | {first:.3f} | {last:.3f} | {used:.1f} |"


def _filled(scores: list[float], clicks: int) -> list[float]:
    last = scores[-1] if scores else 0.0
    return scores + [last] * (clicks - len(scores))


def _console() -> Console:
    return Console(stderr=True)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--maps", type=int, default=100, help="error maps (100)")
    parser.add_argument("--cases", type=int, default=24, help="synthetic cases (24)")
    parser.add_argument("--clicks", type=int, default=5, help="clicks of a case (5)")
    args = parser.parse_args()
    starts = [dice(*error_map(seed)) for seed in range(args.maps)]
    positive = np.mean([a[3] == POSITIVE for a in first_clicks(make_clicker(REFERENCE), args.maps)])
    print(f"{args.maps} error maps, mean Dice {np.mean(starts):.2f}; {REFERENCE} is positive on {positive:.0%}\n")
    print("\n".join(agreement_table(args.maps)))
    print(f"\n{args.cases} synthetic cases {CASE_SHAPE}, {SEGMENTER}, {args.clicks} clicks\n")
    print("\n".join(score_table(args.cases, args.clicks)))


if __name__ == "__main__":
    main()
