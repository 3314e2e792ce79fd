"""What do an environment and a click rule cost beside the segmenter? One thread, CPU time, one run.

    python benchmarks/speed/env.py                    # 128 x 128 x 128
    python benchmarks/speed/env.py --shape 64,128,128 --runs 9
    python benchmarks/speed/env.py --envs 8 --segmenter synthfm3d-nano    # gym.make_vec against separate environments

The segmenter answers at once with masks prepared before: what is left of a step is Dice, and the copies in the
observation. Click rules (the truth and the mask in, a click out) are timed one by one, and two of them against the same
rules written with scipy on the whole grid; both must choose the same voxel.

With ``--envs`` a segmenter answers clicks in synthetic volumes of 16 x 64 x 64, in one vector environment and in as
many separate ones, the same clicks in both.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from synthfm_agents import list_protocols, make_clicker
from synthfm_env import Click, Prediction, Segmenter, Session, Volume, VolumeEnv
from synthfm_env.segmenters.base import Capabilities, Seconds

SPACING = (1.5, 0.8, 0.8)
SMALLEST_MM3 = 10.0
PARAMS = {"synthfm-v1": {"negatives": 100}}  # else it is done after three clicks
CLICKS = 3
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


def time_rules(shape: tuple[int, int, int], runs: int) -> None:
    """Print what a step costs, and what each click rule does."""
    truth, *masks = organs(shape, runs + 2)
    image = np.random.default_rng(1).normal(size=truth.shape).astype(np.float32)
    volume = Volume(image, truth.astype(np.int16), SPACING, case_id="organ")
    env = VolumeEnv(
        image=volume, structure=1, segmenter=PreparedSegmenter(masks), max_clicks=runs + 1, reveal_truth=True
    )
    references = {"ritm-3d-v1": scipy_ritm, "synthfm-mm-v1": scipy_synthfm_mm}
    clickers = {name: make_clicker(name, **PARAMS.get(name, {})) for name in list_protocols()}
    for clicker in clickers.values():
        clicker.reset(0)
    steps = []
    rules: dict[str, list[float]] = {name: [] for name in clickers}
    whole_grid: dict[str, list[float]] = {name: [] for name in references}
    env.reset(seed=0)
    observation, *_, info = env.step(np.array([0, 0, 0, 1]))  # warm, and clicks outside any error from now on
    for _ in range(runs):
        for name, clicker in clickers.items():
            spent, action = milliseconds(clicker.act, observation, info)
            rules[name].append(spent)
            if name in references:
                spent, voxel = milliseconds(references[name], truth, observation["mask"] > 0)
                whole_grid[name].append(spent)
                if tuple(action[:3].tolist()) != voxel:
                    raise SystemExit(f"{name} clicks {action[:3].tolist()}, scipy's version {list(voxel)}")
        spent, (observation, *_, info) = milliseconds(env.step, np.array([0, 0, 0, 1]))
        steps.append(spent)
    step = float(np.median(steps))
    print(f"env.step, {shape}: {step:.1f} ms, Dice and the copies of observation and truth included")
    for name, times in rules.items():
        line = f"{name}: {np.median(times):.1f} ms, with env.step {np.median(times) + step:.1f} ms"
        if name in whole_grid:
            theirs = np.median(whole_grid[name])
            line += f"; scipy on the whole grid {theirs:.1f} ms, ratio {theirs / np.median(times):.1f}x"
        print(line)


def time_together(count: int, segmenter: str) -> None:
    """Print the steps a second of a vector environment, and of as many separate ones."""
    kwargs: dict[str, Any] = {"shape": [16, 64, 64], "segmenter": segmenter, "max_clicks": CLICKS + 1}
    vector = gym.make_vec("SynthFM/Synthetic3D-v0", num_envs=count, **kwargs)
    separate = [gym.make("SynthFM/Synthetic3D-v0", disable_env_checker=True, **kwargs) for _ in range(count)]
    actions = np.random.default_rng(0).integers(0, [16, 64, 64, 2], (CLICKS + 1, count, 4))
    vector.reset(seed=0)
    vector.step(actions[0])  # encodes
    for i, env in enumerate(separate):
        env.reset(seed=i)
        env.step(actions[0, i])
    together = alone = 0.0
    for clicks in actions[1:]:  # in turn, so that whatever else the machine does slows both
        together += milliseconds(vector.step, clicks)[0]
        alone += sum(milliseconds(env.step, click)[0] for env, click in zip(separate, clicks, strict=True))
    steps = 1e3 * CLICKS * count
    print(
        f"{segmenter}, {count} environments of 16 x 64 x 64: {steps / together:.2f} steps/s as one vector environment, "
        f"{steps / alone:.2f} separately, ratio {alone / together:.2f}x (CPU time of all threads)"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="128,128,128", help="D,H,W")
    parser.add_argument("--runs", type=int, default=7, help="steps")
    parser.add_argument("--envs", type=int, help="time a vector environment of so many instead")
    parser.add_argument("--segmenter", default="synthfm3d-nano", help="that answers in it")
    given = parser.parse_args()
    if given.envs:
        time_together(given.envs, given.segmenter)
        return
    depth, height, width = (int(n) for n in given.shape.split(","))
    time_rules((depth, height, width), given.runs)


if __name__ == "__main__":
    main()
