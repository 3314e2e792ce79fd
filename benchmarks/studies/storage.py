"""Compares the Dice of a segmenter on cases that are mirrored, permuted, resampled, rescaled or inverted.

``python benchmarks/studies/storage.py FOLDER --segmenter synthfm3d-unet`` reads a folder as ``real_cases.py`` does and
plays ``ritm-3d-v1`` on each variant. Grey levels are changed after the volume's own scaling to 8 bits; volumes are
resampled with their spacing, linearly, their labels by the nearest voxel.
"""

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from real_cases import load_cases, play
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy import ndimage

from synthfm_env import Volume, make_segmenter, to_uint8

SHOWN = (1, 3, 5, 10)


def stored(volume: Volume, axes: tuple[int, int, int], flips: tuple[int, ...]) -> Volume:
    """Return a volume with its axes permuted, then mirrored."""
    assert volume.label is not None
    image, label = (np.flip(part.transpose(axes), flips).copy() for part in (volume.image, volume.label))
    z, y, x = (volume.spacing[axis] for axis in axes)
    return Volume(image, label, (z, y, x), volume.modality, volume.case_id, volume.structures)


def resampled(volume: Volume, factor: float) -> Volume:
    """Return a volume with ``factor`` times as many voxels along each axis of more than one."""
    assert volume.label is not None
    factors = [factor if n > 1 else 1.0 for n in volume.image.shape]
    image = ndimage.zoom(volume.image, factors, order=1, mode="nearest", grid_mode=True)
    label = ndimage.zoom(volume.label, factors, order=0, mode="nearest", grid_mode=True)
    z, y, x = (d * n / m for d, n, m in zip(volume.spacing, volume.image.shape, image.shape, strict=True))
    return Volume(image, label, (z, y, x), volume.modality, volume.case_id, volume.structures)


def regreyed(volume: Volume, scale: float, offset: float) -> Volume:
    """Return a volume in 8 bits with other grey levels."""
    grey = to_uint8(volume.image, volume.modality).astype(float) * scale + offset
    image = np.rint(grey.clip(0, 255)).astype(np.uint8)
    return Volume(image, volume.label, volume.spacing, volume.modality, volume.case_id, volume.structures)


VARIANTS: dict[str, Callable[[Volume], Volume]] = {
    "as stored": lambda volume: volume,
    "mirrored": lambda volume: stored(volume, (0, 1, 2), (0, 1, 2)),
    "rotated by 90 degrees in plane": lambda volume: stored(volume, (0, 2, 1), (1,)),
    "axes permuted": lambda volume: stored(volume, (2, 0, 1), ()),
    "0.7 times the voxels": lambda volume: resampled(volume, 0.7),
    "1.5 times the voxels": lambda volume: resampled(volume, 1.5),
    "inverted": lambda volume: regreyed(volume, -1.0, 255.0),
    "rescaled": lambda volume: regreyed(volume, 0.6, 60.0),
}


def main(
    folder: Path,
    segmenter: Annotated[str, typer.Option(help="name or file")] = "synthfm3d-unet",
    most: Annotated[int, typer.Option(help="structures of each case")] = 2,
) -> None:
    """Play all variants of all volumes and print the table."""
    torch.set_num_threads(1)
    model = make_segmenter(segmenter)
    volumes = [volume for volume in load_cases(folder) if volume.image.ndim == 3 and volume.image.shape[0] > 1]
    curves: dict[str, list[list[float]]] = defaultdict(list)
    for volume in track(volumes, console=Console(stderr=True)):
        for name, change in VARIANTS.items():
            played = play(change(volume), model, most)
            curves[name].append(np.mean([episode.dice for episode in played], axis=0).tolist())
    table = Table("how volumes are stored", "n", *(f"Dice@{count}" for count in SHOWN))
    for name, each in curves.items():
        mean = np.mean(each, axis=0)
        table.add_row(name, str(len(each)), *(f"{mean[count - 1]:.3f}" for count in SHOWN))
    Console(width=110).print(table)


if __name__ == "__main__":
    typer.run(main)
