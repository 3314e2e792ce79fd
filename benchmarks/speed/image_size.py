"""Times Meta's SAM 2 at several sizes of the frames that it is fed, with random weights: seconds, not Dice.

``python benchmarks/speed/image_size.py`` prints, for the option ``image_size`` of the engine in fast mode, the seconds
of two clicks on one synthetic image and on a synthetic volume of a few slices. Weights do not change the cost, so none
are needed; an episode's Dice would say nothing and is not printed. One torch thread. Seconds are those of this
process alone, which other work on the machine disturbs less than the clock's.
"""

import time
from typing import Annotated, Literal

import torch
import typer
from engine import build_random, clicks_on_one_structure  # beside this file
from rich.console import Console
from rich.table import Table

from synthfm_env.segmenters.sam2 import SAM2Segmenter, set_image_size
from synthfm_env.synthesis import SynthFM3D

SIDE = 512
"""Voxels along a side of the slices."""


def seconds_of_clicks(segmenter: SAM2Segmenter, slices: int) -> list[float]:
    """Return the process's seconds of the first click, encoding included, and of the second one on another slice."""
    volume = SynthFM3D(shape=(slices, SIDE, SIDE), recipe="any").sample(0)
    assert volume.label is not None
    seconds = []
    with segmenter.start(volume.image, (1.0, 1.0, 1.0)) as session:
        for click in clicks_on_one_structure(volume.label, 2):
            started = time.process_time()
            session.add(click)
            seconds.append(time.process_time() - started)
    return seconds


def main(
    model: Annotated[list[str], typer.Option(help="official models")] = ["sam2.1-hiera-tiny"],  # noqa: B006
    size: Annotated[list[int], typer.Option(help="pixels along a side")] = [256, 512, 1024],  # noqa: B006
    slices: Annotated[int, typer.Option(help="of the volume; 0 for the image alone")] = 4,
    preset: Annotated[Literal["stock", "fast"], typer.Option()] = "fast",
) -> None:
    """Time clicks on an image and on a volume at each size and print the table."""
    torch.set_num_threads(1)
    columns = ["model", "image_size", "image: first click, s", "second"]
    table = Table(*columns, *([f"{slices} slices: first click, s", "second"] if slices else []))
    for name in model:
        built = build_random(name, 1024)
        for side in size:
            set_image_size(built, side)
            segmenter = SAM2Segmenter(name, built, torch.device("cpu"), exact=preset == "stock")
            times = [second for depth in (1, slices) if depth for second in seconds_of_clicks(segmenter, depth)]
            table.add_row(name, str(side), *(f"{second:.2f}" for second in times))
    table.title = f"random weights, slices of {SIDE} x {SIDE}, preset {preset}, one thread"
    Console(width=120).print(table)


if __name__ == "__main__":
    typer.run(main)
