"""Measures click compliance: the share of clicked voxels at which the mask has the click's label.

``python benchmarks/studies/compliance.py FOLDER`` plays ``ritm-3d-v1`` on real cases (``FOLDER/<case>/image.nii.gz``,
``label.nii.gz``, ``meta.json``; the largest structure of each) and on synthetic volumes, and prints, by sign and kind
of case, the share of clicks obeyed at once and the share of all clicks so far that the mask still obeys.
"""

from collections import defaultdict
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from agreement import clicks_on
from real_cases import load_cases
from rich.console import Console
from rich.progress import track
from rich.table import Table

from synthfm_env import Segmenter, SynthFM3D, Volume, make_segmenter


def obeyed(segmenter: Segmenter, volume: Volume, count: int) -> list[tuple[bool, bool, list[bool]]]:
    """Return for each click of an episode its sign, whether it was obeyed, and whether each one so far still is."""
    assert volume.label is not None
    structure = int(np.bincount(volume.label.ravel())[1:].argmax()) + 1
    rows = []
    with segmenter.start(volume.image, volume.spacing) as session:
        for click in clicks_on(volume, structure, segmenter, count):
            mask = session.add(click).mask
            now = [bool(mask[c.zyx]) == c.positive for c in session.clicks]
            rows.append((click.positive, now[-1], now))
    return rows


def main(
    folder: Annotated[Path | None, typer.Argument(help="real cases; synthetic ones alone without it")] = None,
    segmenter: str = "synthfm3d-nano",
    clicks: int = 5,
    synthetic: Annotated[int, typer.Option(help="synthetic volumes of 32 x 128 x 128")] = 8,
    slices: Annotated[int, typer.Option(help="leave out real volumes of more")] = 200,
    mode: Annotated[str, typer.Option(help="auto, fast or exact")] = "auto",
) -> None:
    """Play all cases and print the table."""
    torch.set_num_threads(1)
    engine = make_segmenter(segmenter, preset=mode)
    cases = [("synthetic", SynthFM3D(shape=(32, 128, 128), recipe="any").sample(seed)) for seed in range(synthetic)]
    if folder is not None:
        real = [volume for volume in load_cases(folder) if len(volume.image) <= slices]
        cases += [("real 2D" if len(volume.image) == 1 else "real 3D", volume) for volume in real]
    found: dict[tuple[str, str], list[tuple[bool, float]]] = defaultdict(list)
    for kind, volume in track(cases, console=Console(stderr=True)):
        for positive, at_once, still in obeyed(engine, volume, clicks):
            found[kind, "positive" if positive else "negative"].append((at_once, float(np.mean(still))))
    table = Table("cases", "click", "n", "obeyed at once", "clicks so far obeyed, mean")
    for (kind, sign), rows in sorted(found.items()):
        at_once, still = np.mean(rows, axis=0)
        table.add_row(kind, sign, str(len(rows)), f"{at_once:.1%}", f"{still:.1%}")
    table.title = f"{segmenter}, {mode} mode, ritm-3d-v1, up to {clicks} clicks a case"
    Console(width=100).print(table)


if __name__ == "__main__":
    typer.run(main)
