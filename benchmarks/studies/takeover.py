"""Plays real cases with SAM 2 for the first click and the volume network for all further ones.

``python benchmarks/studies/takeover.py FOLDER`` reads a folder as ``real_cases.py`` does. The volume network takes SAM
2's mask as its previous answer (``session.prompt(mask=...)``), and corrects it from the second click on. Clicks are
those of ``ritm-3d-v1``; up to two structures a case.
"""

from collections import defaultdict
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from real_cases import load_cases, picked_structures
from rich.console import Console
from rich.progress import track
from rich.table import Table

from synthfm_agents.protocol import ClickContext
from synthfm_agents.protocols.ritm_3d import Ritm3D
from synthfm_env import Click, Segmenter, Volume, make_segmenter, to_uint8
from synthfm_env.metrics import dice

SHOWN = (1, 3, 5, 10)


def play(volume: Volume, structure: int, first: Segmenter, later: Segmenter) -> list[float]:
    """Return Dice after each of ten clicks."""
    assert volume.label is not None
    image, truth = to_uint8(volume.image, volume.modality), volume.label == structure
    rule, mask = Ritm3D(), np.zeros_like(truth)
    clicks: tuple[Click, ...] = ()
    curve: list[float] = []
    with first.start(image, volume.spacing) as drawing, later.start(image, volume.spacing) as correcting:
        for number in range(max(SHOWN)):
            context = ClickContext(truth, mask, truth & ~mask, mask & ~truth, clicks, volume.spacing)
            click = rule.choose(context)
            if click is None:
                break
            if number == 0:
                mask = drawing.add(click).mask
            elif number == 1 and mask.any():
                mask = correcting.prompt([*clicks, click], mask=mask).mask
            else:
                mask = correcting.add(click).mask
            clicks = (*clicks, click)
            curve.append(dice(mask, truth))
    return curve + curve[-1:] * (max(SHOWN) - len(curve))


def main(
    folder: Path,
    first: Annotated[str, typer.Option(help="segmenter of the first click")] = "synthfm3d-nano",
    later: Annotated[str, typer.Option(help="segmenter of all further clicks")] = "synthfm3d-unet",
) -> None:
    """Play all cases and print means over cases."""
    torch.set_num_threads(1)
    drawing, correcting = make_segmenter(first), make_segmenter(later)
    groups: dict[str, list[list[float]]] = defaultdict(list)
    for volume in track(load_cases(folder), console=Console(stderr=True)):
        curves = [play(volume, structure, drawing, correcting) for structure in picked_structures(volume, 2)]
        groups["2D" if volume.image.shape[0] == 1 else "3D"].append(np.mean(curves, axis=0).tolist())
    table = Table("cases", "n", *(f"Dice@{count}" for count in SHOWN))
    for group, each in sorted(groups.items()):
        mean = np.mean(each, axis=0)
        table.add_row(group, str(len(each)), *(f"{mean[count - 1]:.3f}" for count in SHOWN))
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
