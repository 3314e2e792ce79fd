"""Dice of three planes, zoom, click prior and refiner: the same weights in six views of real cases.

``python benchmarks/studies/views.py FOLDER`` reads cases as ``real_cases.py`` does and plays ``ritm-3d-v1`` on the
largest structure of each, whole volumes on their native grid. One torch thread. Seconds a click hold everything the
segmenter does for it, the first click's encoding too, as CPU time, which other work on the machine hardly disturbs.
"""

import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import typer
from real_cases import SHOWN, load_cases
from rich.console import Console
from rich.progress import track
from rich.table import Table

from synthfm_agents import make_clicker
from synthfm_env import Segmenter, Volume, VolumeEnv, make_segmenter

_VIEWS: dict[str, tuple[Literal[1, 3], bool, bool, bool]] = {
    "slices along z": (1, False, False, False),
    "planes, turns": (3, False, False, False),
    "zoom": (1, True, False, False),
    "planes, turns, zoom": (3, True, False, False),
    "those and distances": (3, True, True, False),
    "those and refiner": (3, True, True, True),
}


def play(volume: Volume, segmenter: Segmenter) -> Iterator[tuple[float, float]]:
    """Yield Dice and CPU seconds of each of ten clicks; the last pair repeats where the rule stops early."""
    assert volume.label is not None
    largest = int(np.bincount(volume.label[volume.label > 0]).argmax())
    env = VolumeEnv(image=volume, segmenter=segmenter, reveal_truth=True, max_clicks=max(SHOWN))
    clicker = make_clicker("ritm-3d-v1")
    observation, info = env.reset(seed=0, options={"structure": largest})
    clicker.reset(0)
    answer, ended = (0.0, 0.0), False
    for _ in range(max(SHOWN)):
        if not ended:
            action = clicker.act(observation, info)
            started = time.process_time()
            observation, _, terminated, truncated, info = env.step(action)
            answer, ended = (info["dice"], time.process_time() - started), terminated or truncated
        yield answer
    env.close()


def main(folder: Path, segmenter: Annotated[str, typer.Option(help="a SAM 2")] = "synthfm3d-nano") -> None:
    """Play all cases in all views and print means by dimension."""
    torch.set_num_threads(1)
    played: dict[tuple[str, str], list[list[tuple[float, float]]]] = defaultdict(list)
    engines = {
        view: make_segmenter(segmenter, planes=planes, zoom=zoom, distances=distances, refine=refine)
        for view, (planes, zoom, distances, refine) in _VIEWS.items()
    }
    for volume in track(load_cases(folder), console=Console(stderr=True)):
        for view, engine in engines.items():
            played["2D" if volume.image.shape[0] == 1 else "3D", view].append(list(play(volume, engine)))
    table = Table("cases", "view", "n", *(f"Dice@{k}" for k in SHOWN), "CPU s/click")
    for (group, view), episodes in sorted(played.items(), key=lambda row: row[0][0]):
        dice, seconds = np.mean(episodes, axis=0).T
        shown = (f"{dice[k - 1]:.3f}" for k in SHOWN)
        table.add_row(group, view, str(len(episodes)), *shown, f"{seconds.mean():.2f}")
    Console(width=110).print(table)


if __name__ == "__main__":
    typer.run(main)
