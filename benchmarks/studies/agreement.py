"""Compares fast mode with exact mode on real cases: agreement of masks for the same clicks, and time.

``python benchmarks/studies/agreement.py FOLDER`` reads ``FOLDER/<case>/image.nii.gz``, ``label.nii.gz`` and
``meta.json``, as ``real_cases.py`` does, and takes the cases of more than one slice. ``ritm-3d-v1`` clicks on exact
mode's errors; every other engine is given those clicks. Whole volumes on their native grid, the largest structure of
each. One torch thread. Seconds are this process's CPU time, which other work on the machine hardly disturbs.
"""

import time
from collections import defaultdict
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from real_cases import load_cases
from rich.console import Console
from rich.progress import track
from rich.table import Table

from synthfm_agents import make_clicker
from synthfm_env import Click, InputError, Segmenter, Volume, VolumeEnv, make_segmenter
from synthfm_env.metrics import dice
from synthfm_env.segmenters.sam2 import SAM2Segmenter


def clicks_on(volume: Volume, structure: int, segmenter: Segmenter, count: int) -> list[Click]:
    """Return the clicks of ``ritm-3d-v1`` on a segmenter's errors."""
    env = VolumeEnv(image=volume, segmenter=segmenter, reveal_truth=True, max_clicks=count)
    observation, info = env.reset(seed=0, options={"structure": structure})
    clicker = make_clicker("ritm-3d-v1")
    clicker.reset(0)
    clicks: list[Click] = []
    ended = False
    while not ended:
        action = clicker.act(observation, info)
        z, y, x, kind = (int(i) for i in action)
        if kind < 2:
            clicks.append(Click((z, y, x), kind == 1))
        observation, _, terminated, truncated, info = env.step(action)
        ended = terminated or truncated
    env.close()
    return clicks


def replay(segmenter: Segmenter, volume: Volume, clicks: list[Click]) -> tuple[float, list[NDArray[np.bool_]]]:
    """Return CPU seconds of an episode and the mask after each click."""
    started = time.process_time()
    with segmenter.start(volume.image, volume.spacing) as session:
        masks = [session.add(click).mask for click in clicks]
    return time.process_time() - started, masks


def engines(weights: str) -> dict[str, SAM2Segmenter]:
    """Return exact mode and every variant of fast mode."""
    found = {}
    for name, preset, memory in (
        ("exact", "stock", "all"),
        ("fast", "fast", "all"),
        ("fast, nearest", "fast", "nearest"),
        ("fast, confident", "fast", "confident"),
    ):
        engine = make_segmenter(weights, "cpu", preset, {"memory": memory})
        assert isinstance(engine, SAM2Segmenter)
        found[name] = engine
    return found


def main(
    folder: Path,
    weights: Annotated[str, typer.Option(help="a segmenter's name or weights file")] = "synthfm3d-nano",
    clicks: int = 6,
    slices: Annotated[int, typer.Option(help="leave out volumes of more slices")] = 200,
) -> None:
    """Play the cases and print a row a case, and the means."""
    torch.set_num_threads(1)
    cases = [volume for volume in load_cases(folder) if 1 < len(volume.image) <= slices]
    if not cases:
        raise InputError(f"{folder} holds no volume of 2 to {slices} slices")
    variants = engines(weights)
    console = Console(width=120)
    table = Table("case", "slices", "clicks", "fast: agreement, mean and least of all clicks", "times exact's speed")
    totals: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    # Exact mode decides the clicks; every engine answers them.
    for volume in track(cases, console=Console(stderr=True)):
        assert volume.label is not None
        structure = int(np.bincount(volume.label.ravel())[1:].argmax()) + 1
        truth = volume.label == structure
        placed = clicks_on(volume, structure, variants["exact"], clicks)
        played = {name: replay(engine, volume, placed) for name, engine in variants.items()}
        exact_seconds, exact = played["exact"]
        agreement: dict[str, list[float]] = {}
        for name, (seconds, masks) in played.items():
            agreement[name] = [dice(a, b) for a, b in zip(masks, exact, strict=True)]
            reached = float(np.mean([dice(mask, truth) for mask in masks]))
            totals[name].append((float(np.mean(agreement[name])), reached, exact_seconds / seconds))
        fast = agreement["fast"]
        table.add_row(
            volume.case_id, str(len(volume.image)), str(len(placed)), f"{np.mean(fast):.4f}  {min(fast):.4f}",
            f"{exact_seconds / played['fast'][0]:.2f}",
        )  # fmt: skip
    console.print(table)
    # Means over volumes
    means = Table("engine", "agreement with exact", "Dice with the truth, mean of all clicks", "times exact's speed")
    for name, rows in totals.items():
        agreed, reached, speed = np.mean(rows, axis=0)
        means.add_row(name, f"{agreed:.4f}", f"{reached:.3f}", f"{speed:.2f}")
    means.title = f"{weights}, {len(cases)} volumes, up to {clicks} clicks each, means over volumes"
    console.print(means)


if __name__ == "__main__":
    typer.run(main)
