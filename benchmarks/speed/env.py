"""Measures the CPU time of an environment and of each click rule, without the segmenter, on one thread.

    python benchmarks/speed/env.py                    # 128 x 128 x 128
    python benchmarks/speed/env.py --shape 64,128,128 --runs 9
    python benchmarks/speed/env.py --envs 16 --segmenter synthfm3d-unet --segmenter synthfm3d-nano  # gym.make_vec

The segmenter answers at once with masks prepared before: what is left of a step is Dice, and the copies in the
observation. Click rules (the truth and the mask in, a click out) are timed one by one, and two of them against the same
rules written with scipy on the whole grid; both must choose the same voxel.

With ``--envs`` each segmenter answers the clicks of a rule in one vector environment of synthetic volumes, a step's
in one batch, over whole episodes. Wall time, and what it went into: the segmenter (images and clicks), the rule, Dice,
copies into observations, the rest of resets (drawing what was not drawn ahead), and what is left. Steps a CPU second
leave out what other programs on the machine take.
"""

import argparse
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

import synthfm_env.envs.episode
import synthfm_env.envs.prompt_env
from synthfm_agents import list_protocols, make_clicker
from synthfm_env import Click, Prediction, Segmenter, Session, Volume, VolumeEnv, make_segmenter
from synthfm_env.segmenters.base import Capabilities, Seconds

SPACING = (1.5, 0.8, 0.8)
SMALLEST_MM3 = 10.0
PARAMS = {"synthfm-v1": {"negatives": 100}}  # else it is done after three clicks
CLICKS = 10
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


class Stopwatch:
    """Wall time inside wrapped functions; of nested ones, the inner time counts for the inner one alone."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inner = [0.0]

    def wrap(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, whose time counts for a part."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            self._inner.append(0.0)
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                whole = time.perf_counter() - start
                self.seconds[part] = self.seconds.get(part, 0.0) + whole - self._inner.pop()
                self._inner[-1] += whole

        return timed


def time_together(count: int, name: str, rule: str, shape: list[int], steps: int, device: str) -> float:
    """Print the steps a second of a vector environment and what they cost; returns steps a second."""
    watch, segmenter = Stopwatch(), make_segmenter(name, device=device)
    envs = gym.make_vec(
        "SynthFM/Synthetic3D-v0", num_envs=count, shape=shape, segmenter=segmenter, max_clicks=CLICKS, start="click",
        reveal_truth=True, copy=False,
    )  # fmt: skip
    clicker = make_clicker(rule)
    clicker.reset(0)
    with ExitStack() as patches:
        for part, owner, function in (
            ("segmenter", type(segmenter), "add_many"),
            ("segmenter", type(segmenter), "start"),
            ("Dice", synthfm_env.envs.episode, "dice"),
            ("copies", synthfm_env.envs.episode.Episode, "write_observation"),
            ("reset", synthfm_env.envs.prompt_env.PromptEnv, "reset"),
            ("rule", type(clicker), "act"),
        ):
            patches.enter_context(patch.object(owner, function, watch.wrap(part, getattr(owner, function))))
        observations, infos = envs.reset(seed=0)
        for timed in (False, True):
            watch.seconds.clear()
            played, start, cpu = 0, time.perf_counter(), time.process_time()
            for _ in range(steps if timed else 2):
                played += int(np.count_nonzero(~envs._autoreset_envs))  # type: ignore[attr-defined]  # resets are no steps
                actions = [_choose(clicker, observations, infos, i) for i in range(count)]
                observations, *_, infos = envs.step(np.array(actions))
            wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    envs.close()
    rate = played / wall
    watch.seconds["rest"] = wall - sum(watch.seconds.values())
    parts = ", ".join(f"{part} {1e3 * seconds / played:.2f}" for part, seconds in watch.seconds.items())
    shown = " x ".join(map(str, shape))
    print(f"{name}, {count} environments of {shown}, {rule}: {rate:.1f} steps/s; ms a step: {parts}")
    print(f"{played / cpu:.1f} steps a CPU second, without processes that draw ahead")
    return rate


def _choose(clicker: Any, observations: dict[str, Any], infos: dict[str, Any], i: int) -> NDArray[np.int64]:
    action: NDArray[np.int64] = clicker.act(
        {key: array[i] for key, array in observations.items()}, {"truth": infos["truth"][i]}
    )
    return action


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="128,128,128", help="D,H,W")
    parser.add_argument("--runs", type=int, default=7, help="steps")
    parser.add_argument("--envs", type=int, help="time a vector environment of so many instead")
    parser.add_argument("--grid", default="32,64,64", help="D,H,W of its volumes")
    parser.add_argument("--steps", type=int, default=30, help="steps of all environments")
    parser.add_argument("--rule", default="synthfm-mm-v1", help="that clicks in it")
    parser.add_argument("--segmenter", action="append", help="that answers in it; several are compared")
    parser.add_argument("--device", default="auto", help="of the segmenter")
    given = parser.parse_args()
    if given.envs:
        grid = [int(n) for n in given.grid.split(",")]
        names = given.segmenter or ["synthfm3d-nano"]
        rates = [time_together(given.envs, name, given.rule, grid, given.steps, given.device) for name in names]
        for name, rate in zip(names[1:], rates[1:], strict=True):
            print(f"{names[0]} gives {rates[0] / rate:.1f} times the steps of {name}")
        return
    depth, height, width = (int(n) for n in given.shape.split(","))
    time_rules((depth, height, width), given.runs)


if __name__ == "__main__":
    main()
