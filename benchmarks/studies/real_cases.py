"""Segmenters on a folder of real cases under ``ritm-3d-v1``: every case, and means by modality.

``python benchmarks/studies/real_cases.py FOLDER --segmenter synthfm3d-nano --segmenter geodesic`` reads
``FOLDER/<case>/image.nii.gz``, ``label.nii.gz`` and ``meta.json`` (``modality``, ``label_quality``). Labels that a
model drew ("pseudo") are left out. Whole volumes on their native grid; nothing is cropped by the label. Structures are
averaged within a case first.
"""

import json
from collections import defaultdict
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from synthfm_agents import make_clicker
from synthfm_env import InputError, Segmenter, Volume, VolumeEnv, load_volume, make_segmenter

SHOWN = (1, 3, 5, 10)
MODALITIES = {"CT": "CT", "MR": "MR", "ultrasound": "US"}


class Played(NamedTuple):
    """One structure of one case: Dice after clicks 1 to 10, carried forward where the rule stopped early."""

    case: str
    group: str
    segmenter: str
    dice: list[float]


def load_cases(folder: Path) -> list[Volume]:
    """Return the cases whose labels people drew."""
    volumes = []
    for path in sorted(folder.glob("*/meta.json")):
        meta = json.loads(path.read_text(encoding="utf-8"))
        if "pseudo" in meta["label_quality"]:
            continue
        modality = next((short for long, short in MODALITIES.items() if meta["modality"].startswith(long)), "other")
        image, label = path.parent / "image.nii.gz", path.parent / "label.nii.gz"
        volumes.append(load_volume(image, label, modality=modality, case_id=path.parent.name))
    if not volumes:
        raise InputError(f"{folder} holds no case: expected {folder}/CASE/meta.json, image.nii.gz and label.nii.gz")
    return volumes


def picked_structures(volume: Volume, most: int) -> list[int]:
    """Return up to ``most`` label ids of a case, evenly chosen."""
    assert volume.label is not None
    ids = [int(i) for i in np.unique(volume.label) if i]
    return [ids[i] for i in sorted({round(i) for i in np.linspace(0, len(ids) - 1, most)})]


def play(volume: Volume, segmenter: Segmenter, most: int) -> list[Played]:
    """Play up to ``most`` structures of a case."""
    env = VolumeEnv(image=volume, segmenter=segmenter, reveal_truth=True, max_clicks=max(SHOWN))
    clicker = make_clicker("ritm-3d-v1")
    group = f"{volume.modality} {'2D' if volume.image.shape[0] == 1 else '3D'}"
    played = []
    for structure in picked_structures(volume, most):
        observation, info = env.reset(seed=0, options={"structure": structure})
        clicker.reset(0)
        dice: list[float] = []
        ended = False
        while not ended:
            observation, _, terminated, truncated, info = env.step(clicker.act(observation, info))
            ended = terminated or truncated
            dice.append(info["dice"])
        dice += [dice[-1]] * (max(SHOWN) - len(dice))
        played.append(Played(volume.case_id, group, segmenter.name, dice[: max(SHOWN)]))
    env.close()
    return played


def table_of(title: str, rows: dict[tuple[str, str], list[list[float]]]) -> Table:
    """Return a table of mean Dice by (group, segmenter)."""
    table = Table(title, "segmenter", "n", *(f"Dice@{k}" for k in SHOWN))
    for (group, segmenter), curves in sorted(rows.items()):
        mean = np.mean(curves, axis=0)
        table.add_row(group, segmenter, str(len(curves)), *(f"{mean[k - 1]:.3f}" for k in SHOWN))
    return table


def main(
    folder: Path,
    segmenter: Annotated[list[str], typer.Option(help="again for more")],
    most: Annotated[int, typer.Option(help="structures of each case")] = 3,
) -> None:
    """Play all cases with all segmenters and print both tables."""
    torch.set_num_threads(1)
    segmenters = [make_segmenter(name) for name in segmenter]
    played = [
        episode
        for volume in track(load_cases(folder), console=Console(stderr=True))
        for one in segmenters
        if (one.capabilities.images if volume.image.shape[0] == 1 else one.capabilities.volumes)
        for episode in play(volume, one, most)
    ]
    cases: dict[tuple[str, str], list[list[float]]] = defaultdict(list)
    for episode in played:
        cases[episode.case, episode.segmenter].append(episode.dice)
    groups: dict[tuple[str, str], list[list[float]]] = defaultdict(list)
    group_of = {episode.case: episode.group for episode in played}
    for (case, name), curves in cases.items():
        mean = np.mean(curves, axis=0).tolist()
        modality, dimensions = group_of[case].split()
        for group in (f"{modality} 2D and 3D", group_of[case], f"all {dimensions}"):
            groups[group, name].append(mean)
    console = Console(width=110)
    console.print(table_of("case (n structures)", cases))
    console.print(table_of("mean over n cases", groups))


if __name__ == "__main__":
    typer.run(main)
