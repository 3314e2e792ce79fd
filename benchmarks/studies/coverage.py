"""Compares simple statistics of synthetic structures with those of real ones.

    python benchmarks/studies/coverage.py --real ../shared/realdata --out docs/generator-coverage.png

``--real`` is a folder of cases, each a folder with image.nii.gz and label.nii.gz. Every structure is measured on
the slice where it is largest, after the 8-bit scaling that models get, with slices brought to 256 pixels; its
sphericity is that of its whole surface in mm, from volumes only.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label as components
from skimage.measure import marching_cubes, mesh_surface_area, perimeter_crofton
from skimage.transform import resize

from synthfm_env.errors import InputError
from synthfm_env.synthesis import SynthFM3D
from synthfm_env.volumes import Volume, load_volume, to_uint8

STATISTICS = {
    "contrast": "|mean inside - mean around| / 255",
    "cnr": "|mean inside - mean around| / pooled standard deviation",
    "edge width": "pixels: step over the steepest slope of the mean profile across the border",
    "size": "diameter of the disc of the same area / shorter side",
    "sphericity": "pi^(1/3) (6 volume)^(2/3) / surface, in 3D; volumes only",
    "circularity": "4 pi area / perimeter^2 on the largest slice",
    "inside sd": "standard deviation inside / 255",
    "noise": "standard deviation of what a 3 x 3 Laplacian leaves, inside / 255",
    "noise slope": "log power over log frequency of the slice, 0.1 to 0.5 cycles a pixel",
}
MODALITIES = ("CT", "MR", "US", "other")
SIDE = 256
RING = 6  # pixels on either side of a border
MOST_PER_CASE = 15
FEWEST_VOXELS, FEWEST_SLICES = 64, 3  # for a surface to be told from its voxels
PREFIXES = {"ct": "CT", "mr": "MR", "us": "US", "mi": "other"}
_LAPLACE = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)


def measure(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> dict[str, float] | None:
    """Return the statistics of one structure on one slice, None if it is too small or fills the slice."""
    # Slice of at most 256 pixels a side.
    scale = SIDE / max(image.shape)
    if scale < 1:
        size = tuple(max(1, round(n * scale)) for n in image.shape)
        image = resize(image, size, order=1, anti_aliasing=True, preserve_range=True)
        mask = resize(mask.astype(np.float32), size, order=1) > 0.5
    area = int(mask.sum())
    if area < 7 or area > 0.8 * mask.size:
        return None
    x: NDArray[np.float32] = image.astype(np.float32) / np.float32(255)
    # Pixels on both sides of the border, by their signed distance to it.
    distance = ndimage.distance_transform_edt(mask) - ndimage.distance_transform_edt(~mask)
    ring = (distance < 0) & (distance >= -RING)
    inside = mask & (distance <= max(RING, 2))
    if ring.sum() < 10:
        return None
    step = abs(float(x[inside].mean() - x[ring].mean()))
    spread = float(np.sqrt((x[inside].var() + x[ring].var()) / 2))
    # Mean profile across the border; its steepest slope gives the edge's width.
    edges = np.arange(-RING - 0.5, RING + 1)
    which = np.digitize(distance, edges)
    profile = np.array([x[which == i].mean() for i in range(1, len(edges)) if (which == i).any()])
    slope = float(np.abs(np.diff(profile)).max()) if len(profile) > 1 else 0.0
    residual = ndimage.convolve(x, _LAPLACE)
    return {
        "contrast": step,
        "cnr": step / max(spread, 1e-3),
        "edge width": min(2.0 * RING, float(np.ptp(profile)) / max(slope, 1e-4)),
        "size": 2 * np.sqrt(area / np.pi) / min(mask.shape),
        "circularity": min(1.2, 4 * np.pi * area / max(1.0, float(perimeter_crofton(mask))) ** 2),
        "inside sd": float(x[mask].std()),
        "noise": float(np.abs(residual[mask]).mean() * np.sqrt(np.pi / 2) / 6),
        "noise slope": _slope(x),
    }


def sphericity(mask: NDArray[np.bool_], spacing: tuple[float, float, float]) -> float:
    """Return Wadell's sphericity of a structure (D, H, W) with ``spacing`` in mm, NaN if it is too small for one.

    1 for a ball, less for anything else; the surface is marching cubes', which makes a ball of voxels about 0.93.
    """
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    part = mask[box]
    if part.shape[0] < FEWEST_SLICES or part.sum() < FEWEST_VOXELS:
        return float("nan")
    vertices, faces, *_ = marching_cubes(np.pad(part, 1).astype(np.float32), 0.5, spacing=spacing)
    volume = float(part.sum()) * float(np.prod(spacing))
    return float(np.pi ** (1 / 3) * (6 * volume) ** (2 / 3) / mesh_surface_area(vertices, faces))


def _slope(x: NDArray[np.float32]) -> float:
    """Return the slope of log power over log frequency of a slice, from its largest central square."""
    side = min(x.shape)
    top, left = (x.shape[0] - side) // 2, (x.shape[1] - side) // 2
    window = np.hanning(side)
    x = x[top : top + side, left : left + side]
    power = np.abs(np.fft.fft2((x - x.mean()) * np.outer(window, window))) ** 2
    f = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side), indexing="ij"))
    bins = np.linspace(0.1, 0.5, 9)
    radial = [power[(f >= a) & (f < b)].mean() for a, b in pairwise(bins)]
    return float(np.polyfit(np.log((bins[:-1] + bins[1:]) / 2), np.log(np.array(radial) + 1e-9), 1)[0])


def measure_volume(volume: Volume, rng: np.random.Generator) -> Iterator[dict[str, float]]:
    """Yield the statistics of up to ``MOST_PER_CASE`` structures of a volume."""
    assert volume.label is not None
    image = to_uint8(volume.image, volume.modality)
    ids = np.unique(volume.label[volume.label > 0])
    for i in rng.permutation(ids)[:MOST_PER_CASE]:
        mask = volume.label == i
        z = int(mask.sum((1, 2)).argmax())
        parts = components(mask[z])
        largest = parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
        found = measure(image[z], largest)
        if found:
            yield {**found, "sphericity": sphericity(mask, volume.spacing)}


def real_volumes(folder: Path) -> Iterator[Volume]:
    """Yield the cases of a folder; the two letters before the first underscore tell the modality."""
    cases = sorted(p for p in folder.glob("*/image.nii.gz"))
    if not cases:
        raise InputError(f"--real {folder}: no case folder with an image.nii.gz in it")
    for path in cases:
        modality = PREFIXES.get(path.parent.name[:2], "other")
        yield load_volume(path, path.with_name("label.nii.gz"), modality=modality, case_id=path.parent.name)


def synthetic_volumes(count: int) -> Iterator[Volume]:
    """Yield ``count`` volumes of every style, 3D and 2D by turns."""
    for style in MODALITIES:
        makers = [SynthFM3D(shape, style.lower()) for shape in ((24, 128, 128), (1, 256, 256), (48, 96, 96))]
        for seed in range(count):
            yield makers[seed % len(makers)].sample(seed)


def collect(volumes: Iterator[Volume]) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Return values by modality and statistic; what cannot be measured on a structure is left out."""
    rng = np.random.default_rng(0)
    rows: dict[str, list[dict[str, float]]] = defaultdict(list)
    for volume in volumes:
        rows[volume.modality].extend(measure_volume(volume, rng))
    values = {m: {s: np.array([r[s] for r in found]) for s in STATISTICS} for m, found in rows.items()}
    return {m: {s: x[np.isfinite(x)] for s, x in found.items()} for m, found in values.items()}


def coverage(real: NDArray[np.float64], synthetic: NDArray[np.float64]) -> float:
    """Return the share of real values within the 1st to 99th percentile of the synthetic ones."""
    low, high = np.percentile(synthetic, [1, 99])
    return float(((real >= low) & (real <= high)).mean())


def draw(real: dict, synthetic: dict, path: Path) -> None:
    """Draw, for each statistic and modality, where the real values are in the synthetic distribution."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shown = [m for m in MODALITIES if m in real]
    figure, axes = plt.subplots(3, 3, figsize=(13, 9), constrained_layout=True)
    for axis, statistic in zip(axes.ravel(), STATISTICS, strict=True):
        for row, modality in enumerate(shown):
            s, r = synthetic[modality][statistic], real[modality][statistic]
            for (a, b), height in (((1, 99), 0.18), ((10, 90), 0.42)):
                low, high = np.percentile(s, [a, b])
                axis.barh(row, high - low, left=low, height=height, color="#9ecae1" if a == 1 else "#4292c6")
            jitter = np.random.default_rng(1).uniform(-0.28, 0.28, len(r))
            axis.scatter(r, row + jitter, s=7, color="#d94801", alpha=0.6, linewidths=0, zorder=3)
            axis.text(
                1.01,
                row,
                f"{coverage(r, s):.0%} of {len(r)}",
                transform=axis.get_yaxis_transform(),
                va="center",
                fontsize=8,
            )
        axis.set_yticks(range(len(shown)), shown)
        axis.set_title(f"{statistic}\n", fontsize=10)
        axis.text(0.5, 1.02, STATISTICS[statistic], transform=axis.transAxes, ha="center", fontsize=6.5)
    figure.suptitle(
        "Structures: synthetic 1-99 % and 10-90 % ranges (blue), real values (orange), share of them covered",
        fontsize=11,
    )
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure, print the table, draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, required=True, help="folder of cases")
    parser.add_argument("--count", type=int, default=60, help="synthetic volumes of each style")
    parser.add_argument("--out", type=Path, help="where to write the plot, a PNG")
    args = parser.parse_args()
    real, synthetic = collect(real_volumes(args.real)), collect(synthetic_volumes(args.count))
    print(f"{'':14}" + "".join(f"{m:>38}" for m in MODALITIES if m in real))
    for statistic in STATISTICS:
        cells = []
        for modality in (m for m in MODALITIES if m in real):
            r, s = real[modality][statistic], synthetic[modality][statistic]
            q = [*np.percentile(r, [5, 50, 95]), *np.percentile(s, [5, 50, 95])]
            cells.append(f"  {q[0]:5.2f}{q[1]:6.2f}{q[2]:6.2f} |{q[3]:6.2f}{q[4]:6.2f}{q[5]:6.2f}{coverage(r, s):6.0%}")
        print(f"{statistic:14}" + "".join(f"{c:>38}" for c in cells))
    if args.out:
        draw(real, synthetic, args.out)


if __name__ == "__main__":
    main()
