"""Compares the time of a refinement with oneDNN's convolutions and with torch's own choice.

``python benchmarks/speed/refiner.py``, one thread, seconds of the process. Torch computes convolutions of small and
flat boxes with code of its own (see ``synthfm_env.segmenters.sam2.multiview.refiner``). The shapes are grids of
boxes as objects have them.
"""

import time

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from synthfm_env.segmenters.sam2 import Refiner, load_refiner
from synthfm_env.segmenters.sam2.multiview.refiner_input import CHANNELS

SHAPES = ((17, 33, 50), (30, 30, 30), (10, 90, 90), (40, 60, 50), (64, 64, 64), (96, 96, 96))
REPEATS = 3


def timed(refiner: Refiner, channels: Tensor) -> tuple[float, Tensor]:
    """Return the least seconds of several runs after a first, and what came out."""
    out = refiner(channels)
    seconds = []
    for _ in range(REPEATS):
        started = time.process_time()
        refiner(channels)
        seconds.append(time.process_time() - started)
    return min(seconds), out


def main() -> None:
    """Time all shapes and print the table."""
    torch.set_num_threads(1)
    refiner = load_refiner()
    table = Table("grid", "torch chooses, s", "oneDNN, s", "times as fast", "greatest difference")
    for shape in SHAPES:
        generator = torch.Generator().manual_seed(0)
        channels = torch.randn((1, CHANNELS, *shape), generator=generator)
        channels = channels.contiguous(memory_format=torch.channels_last_3d)
        with torch.no_grad():
            ours, out = timed(refiner, channels)
        # With gradients the refiner leaves the choice to torch; none are kept without parameters that want them.
        refiner.requires_grad_(False)
        theirs, expected = timed(refiner, channels)
        refiner.requires_grad_(True)
        difference = float((out - expected).detach().abs().max())
        figures = f"{theirs:.3f}", f"{ours:.3f}", f"{theirs / ours:.1f}", f"{difference:.0e}"
        table.add_row(" x ".join(map(str, shape)), *figures)
    Console().print(table)


if __name__ == "__main__":
    main()
