"""Compares the CPU time of the generator with TorchIO's label-to-image chain, on one thread.

    python benchmarks/speed/synthesis.py                    # 64 x 128 x 128
    python benchmarks/speed/synthesis.py --shape 160,160,160 --runs 7

TorchIO is measured if it is installed (``pip install torchio``). It has no generator of label maps, so the usual
one is put before its transforms: 14 smooth noise images, upsampled, and their argmax (SynthMorph, lab2im).
Both make one image and its label map: TorchIO from deformation, Gaussian mixture, bias field, blur and noise.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate

from synthfm_env.synthesis import SynthFM3D, generator
from synthfm_env.synthesis.background.body import Body
from synthfm_env.synthesis.imaging.scanners import Scanner

LABELS = 14
STAGES: dict[str, tuple[Any, str]] = {
    "clusters": (generator, "draw_clusters"),
    "body": (generator, "draw_body"),
    "cover": (Body, "cover"),
    "organs": (generator, "populate"),
    "more organs": (generator, "top_up"),
    "components": (generator, "relabel_components"),
    "visibility": (generator, "border_contrast"),
    "texture": (generator, "_textured"),
    "device": (Scanner, "image"),
}


def cpu_times(work: Callable[[int], object], runs: int, warm_up: int) -> list[float]:
    """Return the process's CPU milliseconds of each run; wall time would count what else the machine does.

    The first runs of a process, on other seeds, are not counted: they also load libraries and fill the heap.
    """
    for seed in range(warm_up):
        work(10_000 + seed)
    times = []
    for seed in range(runs):
        start = time.process_time()
        work(seed)
        times.append(1e3 * (time.process_time() - start))
    return times


@contextmanager
def stage_clock() -> Iterator[dict[str, float]]:
    """Time the generator's stages while the block runs."""
    spent: dict[str, float] = defaultdict(float)
    originals = {stage: getattr(owner, name) for stage, (owner, name) in STAGES.items()}

    def timed(stage: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            start = time.process_time()
            try:
                return original(*args, **kwargs)
            finally:
                spent[stage] += 1e3 * (time.process_time() - start)

        return run

    for stage, (owner, name) in STAGES.items():
        setattr(owner, name, timed(stage, originals[stage]))
    try:
        yield spent
    finally:
        for stage, (owner, name) in STAGES.items():
            setattr(owner, name, originals[stage])


def naive_labels(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Return a label map as SynthMorph's own code makes it: upsampled noise images and their argmax."""
    rng = torch.Generator().manual_seed(seed)
    coarse = [max(2, n // 32) for n in shape]
    maps = [
        interpolate(torch.randn([1, 1, *coarse], generator=rng), shape, mode="trilinear", align_corners=False)
        for _ in range(LABELS)
    ]
    return torch.cat(maps, 1).argmax(1)


def torchio_chain() -> Callable[[torch.Tensor], object] | None:
    """Return TorchIO's label-to-image chain, or None if TorchIO is not installed."""
    try:
        import SimpleITK  # type: ignore[import-not-found,import-untyped,unused-ignore]
        import torchio  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return None
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    chain = torchio.Compose(
        [
            torchio.RandomAffine(p=1),
            torchio.RandomElasticDeformation(p=1),
            torchio.RandomLabelsToImage(label_key="labels", image_key="image"),
            torchio.RandomBiasField(p=1),
            torchio.RandomBlur(std=(0.3, 1), p=1),
            torchio.RandomNoise(p=1),
            torchio.RescaleIntensity((0, 1)),
        ]
    )

    def run(labels: torch.Tensor) -> object:
        return chain(torchio.Subject(labels=torchio.LabelMap(tensor=labels)))

    return run


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="64,128,128", help="D,H,W")
    parser.add_argument("--recipe", default="any")
    parser.add_argument("--runs", type=int, default=21, help="volumes; TorchIO gets a third of them")
    args = parser.parse_args()
    shape = tuple(int(n) for n in args.shape.split(","))
    torch.set_num_threads(1)
    maker = SynthFM3D(shape, args.recipe)
    own = cpu_times(maker.sample, args.runs, 20)
    low, middle, high = np.percentile(own, [10, 50, 90])
    print(f"SynthFM-3D  {args.shape}  recipe {args.recipe}: {middle:.1f} ms  (10-90 %: {low:.1f}-{high:.1f}),"
          f" {1e3 / np.mean(own):.1f} volumes/s a core")  # fmt: skip
    with stage_clock() as spent:
        for seed in range(args.runs):
            maker.sample(seed)
    for stage in STAGES:
        print(f"    {stage:12} {spent[stage] / args.runs:6.1f} ms")
    print(f"    {'rest':12} {max(0.0, np.mean(own) - sum(spent.values()) / args.runs):6.1f} ms")
    chain = torchio_chain()
    if chain is None:
        print("TorchIO is not installed; `pip install torchio` to compare")
        return
    runs = max(3, args.runs // 3)
    labels = naive_labels(shape, 0)
    alone = float(np.median(cpu_times(lambda seed: chain(labels), runs, 1)))
    maps = float(np.median(cpu_times(lambda seed: naive_labels(shape, seed), runs, 1)))
    again = float(np.median(cpu_times(maker.sample, args.runs, 0)))
    print(f"TorchIO     {args.shape}: {alone:.0f} ms from a ready label map, {maps:.0f} ms for the map")
    print(f"ratio: {(alone + maps) / again:.1f}x with the map, {alone / again:.1f}x without"
          f" (SynthFM-3D measured again after it: {again:.1f} ms)")  # fmt: skip


if __name__ == "__main__":
    main()
