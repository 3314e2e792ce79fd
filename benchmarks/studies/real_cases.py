"""Plays segmenters on a folder of real cases under ``ritm-3d-v1``: every case, and means by modality.

``python benchmarks/studies/real_cases.py FOLDER --segmenter synthfm3d-unet --segmenter geodesic`` reads
``FOLDER/<case>/image.nii.gz``, ``label.nii.gz`` and ``meta.json`` (``modality``, ``label_quality``). Labels that a
model drew ("pseudo") are left out. Whole volumes are played on their native grid; nothing is cropped by the label.
Structures are averaged within a case first. ``--clicks 20`` adds Dice after 20 clicks. The last columns are the
normalised surface Dice after the last click at a tolerance of two voxels, the worst drop of Dice by one click, and
seconds a click of one thread, without the image's encoding.
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
from synthfm_env.envs.episode import Outcome
from synthfm_env.errors import UserFacingError
from synthfm_env.metrics import nsd, worst_drop

SHOWN = (1, 3, 5, 10, 20)
TOLERANCE = 2.0  # of surfaces, in voxels of the finest axis
MODALITIES = {"CT": "CT", "MR": "MR", "ultrasound": "US"}


class Played(NamedTuple):
    """One structure of one case.

    Attributes:
        case: its name.
        group: modality and dimensions.
        segmenter: its name.
        dice: after each click, carried forward if the rule stopped early.
        surface: normalised surface Dice after the last click.
        seconds: of each answer, without encoding.
    """

    case: str
    group: str
    segmenter: str
    dice: list[float]
    surface: float
    seconds: list[float]


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


def play(volume: Volume, segmenter: Segmenter, most: int, clicks: int = 10) -> list[Played]:
    """Play up to ``most`` structures of a case.

    Raises:
        UserFacingError: the segmenter failed; a mean over the other cases would flatter it.
    """
    env = VolumeEnv(image=volume, segmenter=segmenter, reveal_truth=True, max_clicks=clicks)
    clicker = make_clicker("ritm-3d-v1")
    group = f"{volume.modality} {'2D' if volume.image.shape[0] == 1 else '3D'}"
    played = []
    for structure in picked_structures(volume, most):
        observation, info = env.reset(seed=0, options={"structure": structure})
        clicker.reset(0)
        dice: list[float] = []
        seconds: list[float] = []
        ended = False
        while not ended:
            observation, _, terminated, truncated, info = env.step(clicker.act(observation, info))
            ended = terminated or truncated
            if info["outcome"] == Outcome.MODEL_ERROR:
                raise UserFacingError(
                    f"{volume.case_id}, structure {structure}, click {info['clicks_used']}: {segmenter.name} "
                    f"ended with {info['outcome']}: {info['error']}"
                )
            dice.append(info["dice"])
            seconds.append(_seconds(env))
        dice += [dice[-1]] * (clicks - len(dice))
        surface = _surface_dice(env, structure)
        played.append(Played(volume.case_id, group, segmenter.name, dice[:clicks], surface, seconds))
    env.close()
    return played


def _seconds(env: VolumeEnv) -> float:
    return env.prediction.seconds.predict if env.prediction else 0.0


def _surface_dice(env: VolumeEnv, structure: int) -> float:
    assert env.prediction is not None  # an episode that failed does not get here
    assert env.volume.label is not None
    spacing = env.volume.spacing
    finest = min(step for step, n in zip(spacing, env.volume.image.shape, strict=True) if n > 1)
    return nsd(env.prediction.mask, env.volume.label == structure, spacing, TOLERANCE * finest)


class Curves(NamedTuple):
    """Episodes of one row of a table."""

    dice: list[list[float]]
    surface: list[float]
    seconds: list[float]


def table_of(title: str, rows: dict[tuple[str, str], Curves], clicks: int) -> Table:
    """Return a table of means by (group, segmenter)."""
    shown = [count for count in SHOWN if count <= clicks]
    table = Table(title, "segmenter", "n", *(f"Dice@{count}" for count in shown), "NSD", "worst drop", "s/click")
    for (group, segmenter), (curves, surface, seconds) in sorted(rows.items()):
        mean, drop = np.mean(curves, axis=0), np.mean([worst_drop(np.clip(curve, 0, 1)) for curve in curves])
        figures = *(f"{mean[count - 1]:.3f}" for count in shown), f"{np.mean(surface):.3f}", f"{drop:.3f}"
        table.add_row(group, segmenter, str(len(curves)), *figures, f"{np.median(seconds):.3f}")
    return table


def main(
    folder: Path,
    segmenter: Annotated[list[str], typer.Option(help="again for more")],
    most: Annotated[int, typer.Option(help="structures of each case")] = 3,
    clicks: Annotated[int, typer.Option(help="of each episode")] = 10,
) -> None:
    """Play all cases with all segmenters and print both tables."""
    torch.set_num_threads(1)
    segmenters = [make_segmenter(name) for name in segmenter]
    played = [
        episode
        for volume in track(load_cases(folder), console=Console(stderr=True))
        for one in segmenters
        if (one.capabilities.images if volume.image.shape[0] == 1 else one.capabilities.volumes)
        for episode in play(volume, one, most, clicks)
    ]
    cases: dict[tuple[str, str], Curves] = defaultdict(lambda: Curves([], [], []))
    for episode in played:
        cases[episode.case, episode.segmenter].dice.append(episode.dice)
        cases[episode.case, episode.segmenter].surface.append(episode.surface)
        cases[episode.case, episode.segmenter].seconds.extend(episode.seconds)
    groups: dict[tuple[str, str], Curves] = defaultdict(lambda: Curves([], [], []))
    group_of = {episode.case: episode.group for episode in played}
    for (case, name), (curves, surface, seconds) in cases.items():
        modality, dimensions = group_of[case].split()
        for group in (f"{modality} 2D and 3D", group_of[case], f"all {dimensions}"):
            groups[group, name].dice.append(np.mean(curves, axis=0).tolist())
            groups[group, name].surface.append(float(np.mean(surface)))
            groups[group, name].seconds.extend(seconds)
    console = Console(width=110)
    console.print(table_of("case (n structures)", cases, clicks))
    console.print(table_of("mean over n cases", groups, clicks))


if __name__ == "__main__":
    typer.run(main)
