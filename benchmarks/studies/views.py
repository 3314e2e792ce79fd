"""Compares views and zoom of SAM 2 and the volume network beside it on real cases, and ``geodesic``.

``python benchmarks/studies/views.py FOLDER`` reads cases as ``real_cases.py`` does and plays ``ritm-3d-v1`` on the
largest structure of each, whole volumes on their native grid; ``--view`` chooses rows. One torch thread. Seconds a
click hold everything the segmenter does for it, the first click's encoding too, as CPU time, which other work on the
machine hardly disturbs.
"""

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from real_cases import SHOWN, load_cases
from rich.console import Console
from rich.progress import track
from rich.table import Table

from synthfm_agents import make_clicker
from synthfm_env import Segmenter, Volume, VolumeEnv, make_segmenter
from synthfm_env.errors import unknown_name
from synthfm_env.segmenters.sam2 import FAST, FULL

_VIEWS = {
    "slices along z": FAST,
    "planes, orientations": replace(FAST, planes=3),
    "zoom": replace(FAST, zoom=True),
    "planes, orientations, zoom": replace(FULL, ensemble=False),
    "those and the volume network": FULL,
}
_RIVAL = "geodesic"


def play(volume: Volume, segmenter: Segmenter) -> Iterator[tuple[float, float]]:
    """Yield Dice and CPU seconds of each of ten clicks; the last pair repeats if the rule stops early."""
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


def main(
    folder: Path,
    segmenter: Annotated[str, typer.Option(help="a SAM 2")] = "synthfm3d-nano",
    view: Annotated[list[str] | None, typer.Option(help="a row; again for more; left out: all")] = None,
) -> None:
    """Play all cases in all views, and with ``geodesic``, and print means by dimension."""
    torch.set_num_threads(1)
    chosen = view or [*_VIEWS, _RIVAL]
    if unknown := [name for name in chosen if name not in (*_VIEWS, _RIVAL)]:
        raise unknown_name("view", unknown[0], (*_VIEWS, _RIVAL))
    played: dict[tuple[str, str], list[list[tuple[float, float]]]] = defaultdict(list)
    engines = {
        name: make_segmenter(_RIVAL) if name == _RIVAL else make_segmenter(segmenter, options=_VIEWS[name])
        for name in chosen
    }
    for volume in track(load_cases(folder), console=Console(stderr=True)):
        for name, engine in engines.items():
            played["2D" if volume.image.shape[0] == 1 else "3D", name].append(list(play(volume, engine)))
    table = Table("cases", "view", "n", *(f"Dice@{k}" for k in SHOWN), "CPU s/click")
    for (group, name), episodes in sorted(played.items(), key=lambda row: row[0][0]):
        dice, seconds = np.mean(episodes, axis=0).T
        shown = (f"{dice[k - 1]:.3f}" for k in SHOWN)
        table.add_row(group, name, str(len(episodes)), *shown, f"{seconds.mean():.2f}")
    Console(width=110).print(table)


if __name__ == "__main__":
    typer.run(main)
