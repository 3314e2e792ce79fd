"""Compares the CPU time of NSD and HD95 with DeepMind's ``surface-distance``, on one thread.

    python benchmarks/speed/metrics.py                    # masks of 64 x 128 x 128
    python benchmarks/speed/metrics.py --shape 160,160,160 --runs 9

Both measure the same pairs of masks, in turns, and take NSD at 1 and 2 mm and HD95 from one measurement. The package
is part of the extra ``dev``.
"""

import argparse
import time
import warnings
from collections.abc import Callable

import numpy as np
import surface_distance  # type: ignore[import-untyped]
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from synthfm_env.metrics import Surfaces

SPACING = (2.0, 0.8, 0.8)
Mask = NDArray[np.bool_]


def own(a: Mask, b: Mask) -> list[float]:
    """Return NSD at 1 and 2 mm and HD95."""
    surfaces = Surfaces.between(a, b, SPACING)
    return [surfaces.nsd(1.0), surfaces.nsd(2.0), surfaces.hausdorff(95)]


def deepmind(a: Mask, b: Mask) -> list[float]:
    """Return the same from the package."""
    found = surface_distance.compute_surface_distances(a, b, SPACING)
    nsd = [surface_distance.compute_surface_dice_at_tolerance(found, tolerance) for tolerance in (1.0, 2.0)]
    return [*nsd, surface_distance.compute_robust_hausdorff(found, 95)]


def pair(shape: tuple[int, ...], radius: float, seed: int) -> tuple[Mask, Mask]:
    """Return two dented ellipsoids, ``radius`` of the grid large, that differ as a mask and its truth do."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(-0.5, 0.5, n) for n in shape), indexing="ij", sparse=True)
    distance = np.sqrt(sum(axis**2 for axis in axes))
    first, second = (gaussian_filter(rng.normal(size=shape), 6) for _ in range(2))
    dents = 0.3 * radius / first.std()
    return distance + dents * first < radius, distance + dents * (first + 0.4 * second) < radius


def milliseconds(work: Callable[[Mask, Mask], object], a: Mask, b: Mask) -> float:
    """Return the process's CPU time of one call; wall time would count what else the machine does."""
    start = time.process_time()
    work(a, b)
    return 1e3 * (time.process_time() - start)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="64,128,128", help="D,H,W")
    parser.add_argument("--runs", type=int, default=7, help="pairs of masks of each size")
    args = parser.parse_args()
    shape = tuple(int(n) for n in args.shape.split(","))
    warnings.simplefilter("ignore", DeprecationWarning)  # the package asks for scipy's old module names
    own(*pair(shape, 0.3, 0))
    for name, radius in (("large organ", 0.35), ("small organ", 0.1)):
        times, worst = [], 0.0
        for seed in range(args.runs):
            a, b = pair(shape, radius, seed)
            times.append((milliseconds(own, a, b), milliseconds(deepmind, a, b)))
            worst = max(worst, float(np.abs(np.subtract(own(a, b), deepmind(a, b))).max()))
        mine, theirs = np.median(times, axis=0)
        print(
            f"{name}, {args.shape}: {mine:.1f} ms, surface-distance {theirs:.1f} ms, ratio {theirs / mine:.1f}x; "
            f"largest difference of a score {worst:.1e}"
        )


if __name__ == "__main__":
    main()
