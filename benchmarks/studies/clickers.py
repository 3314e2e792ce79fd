"""Compares rankings of segmenters between clickers, and clickers between segmenters.

    python benchmarks/studies/clickers.py --cases 20 --real ../shared/realdata --out runs/study-clickers
    python benchmarks/studies/clickers.py --out runs/study-clickers --only-report

Every clicker plays with every segmenter on the same cases, from a first click (``start="click"``) or from nothing
(``--start empty``). Scores are nAUC, the mean Dice over all clicks, averaged over the structures of a case. Results go
to ``scores.jsonl`` as they come, so that a run that was stopped goes on.

Two tables: the mean of each clicker with each segmenter; and, for each pair of clickers, Kendall's tau-b between the
rankings of the segmenters under both, with a percentile bootstrap interval over cases (1,000 draws). With three
segmenters tau takes the values -1, -1/3, 1/3 and 1.
"""

import argparse
import inspect
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.stats import kendalltau

from synthfm_agents import Clicker, list_clickers, make_clicker
from synthfm_env import Segmenter, SyntheticEnv, VolumeEnv, make_segmenter
from synthfm_env.envs.prompt_env import PromptEnv
from synthfm_env.envs.synthetic_env import fair_targets
from synthfm_env.errors import InputError
from synthfm_env.volumes.datasets import get_layout

SEGMENTERS = ("synthfm3d-unet", "synthfm3d-nano", "geodesic")
NOT_IN_IT = ("ppo", "centre")  # blind without a first click, so they click the same whatever is meant
DRAWS = 1000
UNSEEN = 20_000  # seeds of the synthetic cases begin here

Score = tuple[str, str, str, float]  # case, segmenter, clicker, nAUC


def cases(
    count: int, real: Path | None, shape: Sequence[int]
) -> Iterator[tuple[str, dict[str, Any], list[int | None]]]:
    """Yield each case's name, the arguments of its environment, and its structures."""
    for seed in range(UNSEEN, UNSEEN + count):
        yield f"synthetic {seed}", {"shape": shape, "seed": seed}, [None]
    if real is None:
        return
    layout = get_layout("folder")
    for item in layout.items(real):
        volume = layout.load(item)
        ids = fair_targets(volume.label)
        if volume.image.shape[0] > 1 and ids.size:
            sizes = np.bincount(np.ravel(volume.label))[ids]  # type: ignore[arg-type]  # a layout always gives a label
            largest = ids[np.argsort(-sizes, kind="stable")[:2]]
            yield f"real {item.image_id}", {"image": volume}, [int(key) for key in largest]


def play(case: dict[str, Any], structures: Sequence[int | None], clicker: Clicker, options: dict[str, Any]) -> float:
    """Return the mean nAUC over the structures of a case."""
    env: PromptEnv
    seed = case.get("seed", 0)
    env = VolumeEnv(image=case["image"], **options) if "image" in case else SyntheticEnv(shape=case["shape"], **options)
    scores = []
    for structure in structures:
        observation, info = env.reset(seed=seed, options=None if structure is None else {"structure": structure})
        clicker.reset(seed)
        curve, ended = [], False
        while not ended:
            action = clicker.act(observation, info if clicker.oracle else {})
            observation, _, terminated, truncated, info = env.step(action)
            if info["outcome"] != "stopped":
                curve.append(info["dice"])
            ended = terminated or truncated
        scores.append(np.mean(curve + [info["dice"]] * (options["max_clicks"] - len(curve))))
    env.close()
    return float(np.mean(scores))


def build(name: str, segmenter: Segmenter) -> Clicker:
    """Return a clicker; one that asks a segmenter asks the one that it plays with."""
    asks = "segmenter" in inspect.signature(type(make_clicker(name)).__init__).parameters
    return make_clicker(name, segmenter=segmenter) if asks else make_clicker(name)


def run(given: argparse.Namespace, path: Path) -> None:
    """Play what is not yet in the file, and append it."""
    done = {tuple(row[:3]) for row in read(path)}
    models = {}
    for label in given.segmenter or SEGMENTERS:
        name, _, preset = label.partition(":")
        models[label] = make_segmenter(name, preset=preset) if preset else make_segmenter(name)
    names = given.clicker or [name for name in list_clickers() if name not in NOT_IN_IT]
    shape = [int(n) for n in given.shape.split(",")]
    with path.open("a", encoding="utf-8") as file:
        for case, arguments, structures in track(list(cases(given.cases, given.real, shape)), "cases"):
            for (label, model), name in itertools.product(models.items(), names):
                if (case, label, name) in done:
                    continue
                options = {"segmenter": model, "max_clicks": given.clicks, "start": given.start, "reveal_truth": True}
                try:
                    score = play(arguments, structures, build(name, model), options)
                except InputError:  # the clicker needs logits, and this segmenter has none
                    continue
                file.write(json.dumps([case, label, name, round(score, 6)]) + "\n")
                file.flush()


def read(path: Path) -> list[Score]:
    """Return what the file holds."""
    return [tuple(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def report(rows: Sequence[Score], kind: str) -> None:
    """Print the tables of the cases whose name begins with ``kind``."""
    scores = {(case, model, clicker): score for case, model, clicker, score in rows if case.startswith(kind)}
    models = list(dict.fromkeys(model for _, model, _ in scores))
    clickers = [
        clicker
        for clicker in dict.fromkeys(clicker for *_, clicker in scores)
        if {model for _, model, other in scores if other == clicker} == set(models)
    ]
    names = sorted({case for case, *_ in scores})
    names = [case for case in names if all((case, m, c) in scores for m in models for c in clickers)]
    if len(names) < 2 or len(models) < 2:
        print(f"{kind}: too little was played for a comparison")
        return
    values = np.array([[[scores[case, m, c] for c in clickers] for m in models] for case in names])
    table = Table(title=f"{kind} cases (n = {len(names)}): nAUC")
    for column in ("clicker", *models, "best segmenter in resamples"):
        table.add_column(column)
    resampled = resample(values)
    for i, clicker in enumerate(clickers):
        best = np.bincount(resampled[:, :, i].argmax(axis=1), minlength=len(models)) / DRAWS
        leader = int(best.argmax())
        table.add_row(
            clicker, *(f"{score:.3f}" for score in values.mean(0)[:, i]), f"{models[leader]} {100 * best[leader]:.0f} %"
        )
    Console(width=120).print(table)
    taus = Table(title=f"{kind} cases: Kendall's tau between rankings of {len(models)} segmenters")
    for column in ("clickers", "tau-b", "95 % interval"):
        taus.add_column(column)
    for i, j in itertools.combinations(range(len(clickers)), 2):
        tau = kendalltau(values.mean(0)[:, i], values.mean(0)[:, j]).statistic
        draws = [kendalltau(draw[:, i], draw[:, j]).statistic for draw in resampled]
        low, high = np.nanpercentile(draws, [2.5, 97.5])
        taus.add_row(f"{clickers[i]}, {clickers[j]}", f"{tau:.2f}", f"{low:.2f} to {high:.2f}")
    Console(width=120).print(taus)


def resample(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return means over cases drawn with replacement, (DRAWS, segmenters, clickers)."""
    rng = np.random.default_rng(0)
    return np.array([values[rng.integers(len(values), size=len(values))].mean(0) for _ in range(DRAWS)])


def main() -> None:
    """Play and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20, help="synthetic cases")
    parser.add_argument("--shape", default="24,64,64", help="of the synthetic cases, D,H,W")
    parser.add_argument("--real", type=Path, help="folder of real cases")
    parser.add_argument("--clicks", type=int, default=5, help="budget of an episode")
    parser.add_argument("--start", default="click", help="of PromptEnv")
    parser.add_argument(
        "--segmenter",
        action="append",
        help=f"a name, or name:preset; again for more; by default {', '.join(SEGMENTERS)}",
    )
    parser.add_argument("--clicker", action="append", help="again for more; every one by default")
    parser.add_argument("--out", type=Path, default=Path("runs/study-clickers"), help="folder of scores.jsonl")
    parser.add_argument(
        "--only-report",
        action="store_true",
        help="print the tables of what was played, by the given segmenters and clickers",
    )
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    path = given.out / "scores.jsonl"
    if not given.only_report:
        run(given, path)
    rows = [
        row
        for row in read(path)
        if (not given.segmenter or row[1] in given.segmenter) and (not given.clicker or row[2] in given.clicker)
    ]
    for kind in ("synthetic", "real"):
        report(rows, kind)


if __name__ == "__main__":
    main()
