"""Compare clickers on the same cases: means, paired differences with intervals, Wilcoxon's test with Holm's correction.

The training scripts in this folder import it; ``synthfm bench clickers`` plays whole boards.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.stats import bootstrap, wilcoxon

from synthfm_agents import Clicker, make_clicker
from synthfm_env import VolumeEnv, make_segmenter
from synthfm_env.envs.actions import stop_action
from synthfm_env.envs.synthetic_env import fair_targets
from synthfm_env.segmenters import Segmenter
from synthfm_env.volumes.datasets import get_layout

UNSEEN = 10_000  # seeds of the synthetic cases begin here; trainings use small ones
MAX_STRUCTURES = 1  # of a real case, the largest ones


class Stop(Clicker):
    """Blind: stops at once, so that the answer to the start prompt stands."""

    name = "stop"

    def act(self, observation: Mapping[str, NDArray[Any]], info: Mapping[str, Any]) -> NDArray[np.int64]:
        """Return stop."""
        return stop_action()


@dataclass(frozen=True)
class Contender:
    """A clicker to compare: its name and parameters."""

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)

    def make(self) -> Clicker:
        """Build the clicker."""
        return Stop() if self.name == "stop" else make_clicker(self.name, **self.params)


@dataclass(frozen=True)
class Scores:
    """Score of a clicker in an episode: Dice after the last click, and the mean over all clicks (nAUC)."""

    last: float
    nauc: float


def measure(
    ours: Contender,
    others: Sequence[Contender],
    segmenter: str | Segmenter,
    shape: tuple[int, int, int],
    clicks: int,
    cases: int,
    real: Path | None,
    start: str,
) -> None:
    """Print the comparison of a clicker with others, on synthetic and on real cases.

    Args:
        ours: the clicker to compare with each of the others.
        others: the clickers to compare it with.
        segmenter: answers their clicks; a name, a path, or a ``Segmenter``.
        shape: grid (D, H, W) of the synthetic cases.
        clicks: budget of an episode.
        cases: number of synthetic cases, one structure of each.
        real: folder with a folder for each case (image.nii.gz, label.nii.gz); None for none.
        start: of ``PromptEnv``.
    """
    model = make_segmenter(segmenter) if isinstance(segmenter, str) else segmenter
    options: dict[str, Any] = {"segmenter": model, "max_clicks": clicks, "start": start, "reveal_truth": True}
    names = [contender.name for contender in (ours, *others)]
    clickers = [contender.make() for contender in (ours, *others)]
    if cases:
        env = gym.make("synthfm_env:SynthFM/Synthetic3D-v0", shape=shape, disable_env_checker=True, **options)
        played = [
            [_play(env, clicker, seed, None) for clicker in clickers]
            for seed in track(range(UNSEEN, UNSEEN + cases), f"{model.name}, synthetic")
        ]
        _print(f"{model.name}: {cases} unseen synthetic cases", names, played)
    if real is not None:
        _print(f"{model.name}: real cases of {real.name}", names, play_real(real, clickers, options))


def play_real(folder: Path, clickers: Sequence[Clicker], options: dict[str, Any]) -> list[list[Scores]]:
    """Return the scores on each real volume, averaged over its largest structures."""
    layout, rows = get_layout("folder"), []
    for item in track(layout.items(folder), "real"):
        volume = layout.load(item)
        ids = fair_targets(volume.label)
        if volume.image.shape[0] == 1 or not ids.size:
            continue  # the policies were trained on volumes
        sizes = np.bincount(np.ravel(volume.label))[ids]  # type: ignore[arg-type]  # a layout always gives a label
        chosen = ids[np.argsort(-sizes, kind="stable")[:MAX_STRUCTURES]]
        env = VolumeEnv(image=volume, **options)
        played = [[_play(env, clicker, 0, int(key)) for clicker in clickers] for key in chosen]
        rows.append(
            [
                Scores(float(np.mean([s.last for s in scores])), float(np.mean([s.nauc for s in scores])))
                for scores in zip(*played, strict=True)
            ]
        )
        env.close()
    return rows


def _play(env: gym.Env[Any, Any], clicker: Clicker, seed: int, structure: int | None) -> Scores:
    """Play one episode; after an early stop the last Dice counts for the remaining clicks."""
    observation, info = env.reset(seed=seed, options=None if structure is None else {"structure": structure})
    clicker.reset(seed)
    budget: int = env.unwrapped.max_clicks  # type: ignore[attr-defined]
    curve, ended = [], False
    while not ended:
        shown = info if clicker.oracle else {}
        observation, _, terminated, truncated, info = env.step(clicker.act(observation, shown))
        if info["outcome"] != "stopped":
            curve.append(info["dice"])
        ended = terminated or truncated
    curve += [info["dice"]] * (budget - len(curve))
    return Scores(float(info["dice"]), float(np.mean(curve)))


def _print(title: str, names: Sequence[str], played: Sequence[Sequence[Scores]]) -> None:
    """Print a table for each score; Holm's correction is over the clickers compared with the first."""
    for score in ("last", "nauc"):
        values = np.array([[getattr(scores, score) for scores in row] for row in played])
        differences = values[:, :1] - values[:, 1:]
        ps = [
            1.0 if not column.any() else float(wilcoxon(column, zero_method="zsplit").pvalue)
            for column in differences.T
        ]
        table = Table(
            title=f"{title}, {'Dice after the last click' if score == 'last' else 'nAUC'} (n = {len(values)})"
        )
        for column in ("clicker", "mean", f"{names[0]} is better by (95 % interval)", "p (Holm)", "better, worse"):
            table.add_column(column)
        table.add_row(names[0], f"{values[:, 0].mean():.3f}")
        for name, scores, column, p in zip(names[1:], values.T[1:], differences.T, _holm(ps), strict=True):
            interval = ""
            if column.std() > 0:
                low, high = bootstrap((column,), np.mean, rng=0, method="BCa").confidence_interval
                interval = f" ({low:+.3f} to {high:+.3f})"
            wins = f"{(column > 0).sum()}, {(column < 0).sum()}"
            table.add_row(name, f"{scores.mean():.3f}", f"{column.mean():+.3f}{interval}", f"{p:.2g}", wins)
        Console(width=120).print(table)


def _holm(ps: Sequence[float]) -> list[float]:
    """Return p values with Holm's step-down correction, in their order."""
    order = np.argsort(ps)
    adjusted = np.maximum.accumulate([(len(ps) - rank) * ps[i] for rank, i in enumerate(order)])
    corrected = np.empty(len(ps))
    corrected[order] = np.minimum(adjusted, 1.0)
    return [float(p) for p in corrected]
