"""What do an environment and a click rule cost beside the segmenter? One thread, CPU time, one run.

    python benchmarks/speed/env.py                    # 128 x 128 x 128
    python benchmarks/speed/env.py --shape 64,128,128 --runs 9

The segmenter answers at once with masks prepared before: what is left of a step is Dice, and the copies in the
observation. Click rules (the truth and the mask in, a click out) are timed against the same rules written with scipy
on the whole grid; both must choose the same voxel.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from synthfm_agents import make_clicker
from synthfm_env import Click, Prediction, Segmenter, Session, Volume, VolumeEnv
from synthfm_env.segmenters.contract import Capabilities, Seconds

SPACING = (1.5, 0.8, 0.8)
SMALLEST_MM3 = 10.0
Mask = NDArray[np.bool_]


class PreparedSession(Session):
    """Answers the first click with the first mask, and so on, over and over."""

    def __init__(self, masks: list[Mask]) -> None:
        self._masks = masks
        self._clicks: list[Click] = []

    @property
    def clicks(self) -> tuple[Click, ...]:
        """The clicks so far."""
        return tuple(self._clicks)

    def add(self, click: Click) -> Prediction:
        """Return the next mask."""
        self._clicks.append(click)
        return self._answer()

    def undo(self) -> Prediction:
        """Return the mask before."""
        self._clicks.pop()
        return self._answer()

    def _answer(self) -> Prediction:
        return Prediction(self._masks[len(self._clicks) % len(self._masks)], None, Seconds(0.0, 0.0))

    def reset(self) -> None:
        """Forget the clicks."""
        self._clicks.clear()

    def close(self) -> None:
        """Hold nothing."""


class PreparedSegmenter(Segmenter):
    """A segmenter that costs nothing."""

    name = "prepared"
    capabilities = Capabilities()

    def __init__(self, masks: list[Mask]) -> None:
        self._masks = masks

    def start(self, image: NDArray, spacing: tuple[float, float, float]) -> Session:
        """Open a session."""
        return PreparedSession(self._masks)


def organs(shape: tuple[int, int, int], count: int) -> list[Mask]:
    """Return dented ellipsoids of a tenth of the grid that differ as the masks of an episode do."""
    rng = np.random.default_rng(0)
    axes = np.meshgrid(*(np.linspace(-0.5, 0.5, n) for n in shape), indexing="ij", sparse=True)
    distance = np.sqrt(sum(axis**2 for axis in axes))
    noises = (ndimage.gaussian_filter(rng.normal(size=shape), 5) for _ in range(count))
    return [distance + 0.06 * noise / noise.std() < 0.29 for noise in noises]


def scipy_ritm(truth: Mask, mask: Mask) -> tuple[int, ...]:
    """Return the voxel of ``ritm-3d-v1`` for a first click, with scipy on the whole grid."""
    return _deepest([truth & ~mask, mask & ~truth], (1.0, 1.0, 1.0))


def scipy_synthfm_mm(truth: Mask, mask: Mask) -> tuple[int, ...]:
    """Return the voxel of ``synthfm-mm-v1`` for a later click, with scipy on the whole grid."""
    kept = []
    for error in (truth & ~mask, mask & ~truth):
        labels, _ = ndimage.label(error, structure=np.ones((3, 3, 3)))
        sizes = np.bincount(labels.ravel())
        sizes[0] = 0
        kept.append((sizes * np.prod(SPACING) >= SMALLEST_MM3)[labels])
    return _deepest(kept, SPACING)


def _deepest(regions: list[Mask], spacing: tuple[float, float, float]) -> tuple[int, ...]:
    inner = (slice(1, -1),) * 3
    missed, false = (
        ndimage.distance_transform_edt(np.pad(region, 1), sampling=spacing)[inner].astype(np.float32)
        for region in regions
    )
    best = missed if missed.max() > false.max() else false
    return tuple(int(i) for i in np.unravel_index(best.argmax(), best.shape))


def milliseconds(work: Callable[..., Any], *args: Any) -> tuple[float, Any]:
    """Return the process's CPU time of one call, and what it returned."""
    start = time.process_time()
    result = work(*args)
    return 1e3 * (time.process_time() - start), result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="128,128,128", help="D,H,W")
    parser.add_argument("--runs", type=int, default=7, help="steps")
    given = parser.parse_args()
    depth, height, width = (int(n) for n in given.shape.split(","))
    truth, *masks = organs((depth, height, width), given.runs + 2)
    image = np.random.default_rng(1).normal(size=truth.shape).astype(np.float32)
    volume = Volume(image, truth.astype(np.int16), SPACING, case_id="organ")
    env = VolumeEnv(
        image=volume, structure=1, segmenter=PreparedSegmenter(masks), max_clicks=given.runs + 1, reveal_truth=True
    )
    references = {"ritm-3d-v1": scipy_ritm, "synthfm-mm-v1": scipy_synthfm_mm}
    clickers = {name: make_clicker(name) for name in references}
    for clicker in clickers.values():
        clicker.reset(0)
    steps = []
    rules: dict[str, list[tuple[float, float]]] = {name: [] for name in references}
    env.reset(seed=0)
    observation, *_, info = env.step(np.array([0, 0, 0, 1]))  # warm, and clicks outside any error from now on
    for _ in range(given.runs):
        mask = observation["mask"] > 0
        for name, reference in references.items():
            mine, action = milliseconds(clickers[name].act, observation, info)
            theirs, voxel = milliseconds(reference, truth, mask)
            if tuple(action[:3].tolist()) != voxel:
                raise SystemExit(f"{name} clicks {action[:3].tolist()}, scipy's version {list(voxel)}")
            rules[name].append((mine, theirs))
        spent, (observation, *_, info) = milliseconds(env.step, np.array([0, 0, 0, 1]))
        steps.append(spent)
    step = float(np.median(steps))
    print(f"env.step, {given.shape}: {step:.1f} ms, Dice and the copies of observation and truth included")
    for name, times in rules.items():
        mine, theirs = np.median(times, axis=0)
        print(
            f"{name}: {mine:.1f} ms, scipy on the whole grid {theirs:.1f} ms, ratio {theirs / mine:.1f}x; "
            f"with env.step {mine + step:.1f} ms"
        )


if __name__ == "__main__":
    main()
