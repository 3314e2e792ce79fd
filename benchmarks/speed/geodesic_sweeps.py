"""Times geodesic distances on one CPU thread: sweeps plane by plane, as on a CPU, against torch.cummin, as elsewhere.

``python benchmarks/speed/geodesic_sweeps.py`` prints CPU milliseconds a grid of 20 x 20 x 20 with three maps, the least
of seven runs, and stops if the distances differ in any bit.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from synthfm_env.segmenters.volume_network import geodesic_sweeps as sweeps

SIDE, MAPS, RUNS = 20, 3, 7
ORDER = [1, 2, 3] * 4


def milliseconds(work: Callable[..., Tensor], *args: Any) -> tuple[float, Tensor]:
    """Return the least CPU time of some runs, and the result."""
    spent = []
    for _ in range(RUNS):
        start = time.process_time()
        result = work(*args)
        spent.append(time.process_time() - start)
    return 1e3 * min(spent), result


def sweep_by_cummin(distance: Tensor, along: dict[int, Tensor], order: list[int]) -> Tensor:
    """Return distances as on a device that is no CPU."""
    for axis in order:
        distance = sweeps._sweep(distance, along[axis], axis + 1)
    return distance


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    for batch in (1, 4, 16, 32):
        cost = 1 + 60 * torch.rand(batch, SIDE, SIDE, SIDE, generator=generator) ** 4
        seeds = torch.rand(batch, MAPS, SIDE, SIDE, SIDE, generator=generator) > 0.9995
        distance = torch.where(seeds, 0.0, sweeps.UNREACHED)
        along = {axis: sweeps._path_costs(cost, axis, torch.ones(batch))[:, None] for axis in (1, 2, 3)}
        planes, ours = milliseconds(sweeps._swept_on_cpu, distance, along, ORDER)
        cummin, theirs = milliseconds(sweep_by_cummin, distance, along, ORDER)
        if not torch.equal(ours, theirs):
            raise SystemExit("the distances differ")
        print(f"batch of {batch}: plane by plane {planes / batch:.2f} ms a grid, torch.cummin {cummin / batch:.2f} ms")


if __name__ == "__main__":
    main()
