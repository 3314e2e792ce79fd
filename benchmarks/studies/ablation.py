"""SynthFM's ablation: what shape-aware and boundary-aware synthesis each teach, on real cases by modality.

``python benchmarks/studies/ablation.py FOLDER --out runs/ablation`` trains ``ablation-shape``, ``ablation-boundary``
and ``ablation-both`` once for each seed, plays the weights on the real cases of ``FOLDER`` (see ``real_cases.py``)
under ``ritm-3d-v1``, and writes ``ablation.md`` and ``episodes.jsonl``. As in the paper, what is trained on and played
is single slices: of each structure the one where it is largest. About fifteen minutes a training on one CPU core. What
is there already is not done again, so it can be stopped and called once more.
"""

import json
import shlex
import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from real_cases import SHOWN, Played, load_cases, picked_structures, play
from rich.console import Console
from rich.progress import track

from synthfm_env import InputError, Volume, make_segmenter
from synthfm_env.files import write_text
from synthfm_train.run import train

RECIPES = {"ablation-shape": "shape-aware", "ablation-boundary": "boundary-aware", "ablation-both": "both"}
GROUPS = ("CT", "MR", "US")

Scores = dict[tuple[str, int], list[Played]]


def trained(recipe: str, seed: int, out: Path, changes: tuple[str, ...]) -> Path:
    """Return the weights of one recipe and seed, trained now unless they are there, or as far as a checkpoint."""
    folder = out / f"{recipe}-seed{seed}"
    finished = folder / "finished"
    if not finished.exists():
        resume = (folder / "checkpoint.pt").exists()
        train(recipe, out=folder, overrides=(*changes, f"seed={seed}"), resume=resume)
        finished.touch()
    return folder / "weights.safetensors"


def largest_slices(volume: Volume, most: int) -> list[Volume]:
    """Return, for up to ``most`` structures of a case, the slice along z where each is largest, with it alone."""
    assert volume.label is not None
    slices = []
    for structure in picked_structures(volume, most):
        inside = volume.label == structure
        z = slice(at := int(inside.sum((1, 2)).argmax()), at + 1)
        slices.append(replace(volume, image=volume.image[z], label=inside[z].astype(np.uint8), structures={}))
    return slices


def played_on(weights: Path, cases: Path, most: int, only: list[str]) -> list[Played]:
    """Play all cases with one set of weights, or read what was played."""
    kept = weights.with_name("episodes.jsonl")
    if kept.exists():
        return [Played(**json.loads(line)) for line in kept.read_text(encoding="utf-8").splitlines()]
    # The volume network would hide what was learned.
    segmenter = make_segmenter(str(weights), options={"ensemble": False})
    volumes = [volume for volume in load_cases(cases) if not only or volume.case_id in only]
    shown = track(volumes, weights.parent.name, console=Console(stderr=True))
    slices = (one for volume in shown for one in largest_slices(volume, most))
    episodes = [episode for one in slices for episode in play(one, segmenter, 1)]
    write_text(kept, "".join(json.dumps(episode._asdict()) + "\n" for episode in episodes))
    return episodes


def case_means(episodes: Iterable[Played], click: int) -> dict[str, list[float]]:
    """Return Dice after a click by modality ("all" too), one number a case: the mean over its structures."""
    cases: dict[tuple[str, str], list[float]] = defaultdict(list)
    for episode in episodes:
        cases[episode.group[:2], episode.case].append(episode.dice[click - 1])
    groups: dict[str, list[float]] = defaultdict(list)
    for (group, _), values in cases.items():
        for name in (group, "all"):
            groups[name].append(float(np.mean(values)))
    return groups


def table_of(scores: Scores) -> str:
    """Return a Markdown table: for each recipe the mean over seeds of the mean over cases, and the seeds' range."""
    first = case_means(next(iter(scores.values())), 1)
    groups = [name for name in (*GROUPS, "all") if name in first]
    lines = [
        "| generator | clicks | " + " | ".join(f"{name} (n = {len(first[name])})" for name in groups) + " |",
        "|---|---|" + "---|" * len(groups),
    ]
    for recipe, title in RECIPES.items():
        runs = [episodes for (name, _), episodes in scores.items() if name == recipe]
        for click in SHOWN:
            cells = []
            for group in groups:
                means = [float(np.mean(case_means(episodes, click)[group])) for episodes in runs]
                cells.append(f"{np.mean(means):.3f} ({min(means):.3f} to {max(means):.3f})")
            lines.append(f"| {title} | {click} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main(
    cases: Annotated[Path, typer.Argument(metavar="FOLDER", help="real cases, as for real_cases.py")],
    out: Annotated[Path, typer.Option(help="for trainings, episodes and the table")] = Path("runs/ablation"),
    seeds: Annotated[int, typer.Option(min=1, help="trainings of each recipe, seeds 1, 2 ...")] = 2,
    most: Annotated[int, typer.Option(min=1, help="structures of each case")] = 2,
    case: Annotated[list[str] | None, typer.Option(help="play this case alone, again for more")] = None,
    changes: Annotated[list[str] | None, typer.Option("--set", help="change the recipes, as for synthfm train")] = None,
) -> None:
    """Train, play, and write the table."""
    torch.set_num_threads(1)
    load_cases(cases)  # what is wrong with the folder shows before an hour of training
    scores: Scores = {}
    for seed in range(1, seeds + 1):
        for recipe in RECIPES:
            weights = trained(recipe, seed, out, tuple(changes or ()))
            scores[recipe, seed] = played_on(weights, cases, most, case or [])
    command = shlex.join(["python", "benchmarks/studies/ablation.py", *sys.argv[1:]])
    text = f"`{command}`, {date.today()}; Dice, mean over {seeds} seeds (lowest to highest).\n\n{table_of(scores)}"
    write_text(out / "ablation.md", text)
    typer.echo(f"{text}\nwritten to {out / 'ablation.md'}")


if __name__ == "__main__":
    try:
        typer.run(main)
    except InputError as error:
        sys.exit(f"ablation: {error}")
