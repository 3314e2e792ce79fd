"""Compares options of SAM 2's image encoder at equal training, by SAM 2 alone.

``python benchmarks/studies/encoder_dice.py --real FOLDER`` continues the packaged weights on the same clips with
each option (recipe ``ablation-encoder``). It trains the small SAM 2 from random weights with either trunk (recipe
``ablation-trunk``), so that both begin alike. Each is then played

- on clips of volumes that no training saw: one click, the other slices tracked from it, and five clicks;
- on real cases as ``views.py`` plays them (``ritm-3d-v1``, the largest structure of each), with planes, orientations
  and zoom, without the volume network. ``--real`` left out: clips alone.

Frames have 128 x 128 pixels in training and in play, for the packaged weights too. ``--option`` chooses rows. Results
are kept in the folder of each training, so options and seeds may run apart. The tables are written to
``encoder_dice.md``; seconds are processor time of one thread.
"""

import json
import shlex
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
import typer
from real_cases import load_cases
from rich.console import Console
from rich.progress import track
from views import play

from synthfm_bench.analysis.statistics import Estimate, estimate
from synthfm_env import InputError, Volume, make_segmenter
from synthfm_env.errors import unknown_name
from synthfm_env.files import write_text
from synthfm_env.segmenters.sam2 import FULL, load_weights, set_image_size
from synthfm_train.run import train
from synthfm_train.sam2.recipe import load_recipe
from synthfm_train.sam2.validation import Validation

COUNTS = (1, 3, 5, 10)
CLIPS = 48
SIZE = 128  # pixels along a side of the frames, as the recipes train
ALONE = replace(FULL, ensemble=False, image_size=SIZE)  # planes and crop alone
PACKAGED = "packaged"
_FROZEN = "trains=memory+decoder"


class Option(NamedTuple):
    """A recipe and its changes."""

    recipe: str
    changes: tuple[str, ...] = ()


OPTIONS = {
    "none": Option("ablation-encoder"),
    "none, encoder frozen": Option("ablation-encoder", (_FROZEN,)),
    "LoRA, encoder frozen": Option("ablation-encoder", (_FROZEN, "lora=4")),
    "depth adapter": Option("ablation-encoder", ("depth_adapter=16",)),
    "2.5D": Option("ablation-encoder", ("neighbours=true",)),
    "Hiera, from random weights": Option("ablation-trunk"),
    "convolutional, from random weights": Option("ablation-trunk", ("architecture.trunk=convolutional",)),
}

Run = dict[str, Any]


def trained(name: str, seed: int, folder: Path, changes: tuple[str, ...]) -> float:
    """Train an option in a folder and return its processor time in seconds; kept in the folder."""
    kept = folder / "seconds.json"
    if not kept.exists():
        option, started = OPTIONS[name], time.process_time()
        overrides = (*changes, *option.changes, f"seed={seed}")
        train(option.recipe, out=folder, overrides=overrides, device="cpu", workers=0)
        write_text(kept, json.dumps(time.process_time() - started))
    return float(json.loads(kept.read_text(encoding="utf-8")))


def played_clips(weights: str, out: Path) -> dict[str, float]:
    """Return the mean Dice on clips that no training saw, after one click, tracked and after five; kept in ``out``."""
    kept = out / "clips.json"
    if not kept.exists():
        recipe, model = load_recipe("ablation-encoder"), load_weights(weights)
        validation = Validation(recipe.data, CLIPS, SIZE, torch.device("cpu"))
        set_image_size(model, SIZE)
        write_text(kept, json.dumps(validation.run(model, out / "clips.png")))
    scores: dict[str, float] = json.loads(kept.read_text(encoding="utf-8"))
    return scores


def played_cases(weights: str, cases: Sequence[Volume], out: Path) -> dict[str, list[float]]:
    """Return the Dice of SAM 2 alone after each of ten clicks, by case; kept in ``out``."""
    kept = out / "cases.json"
    curves: dict[str, list[float]] = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    segmenter = make_segmenter(weights, options=ALONE)
    for volume in track(cases, description=out.name, console=Console(stderr=True)):
        if volume.case_id not in curves:
            curves[volume.case_id] = [dice for dice, _ in play(volume, segmenter)][: max(COUNTS)]
            write_text(kept, json.dumps(curves))
    return curves


def result_of(name: str, seed: int, out: Path, cases: Sequence[Volume], changes: tuple[str, ...]) -> Run:
    """Train and play an option, or play the packaged weights."""
    if name == PACKAGED:
        folder, weights, seconds = out / PACKAGED, "synthfm3d-nano", 0.0
        folder.mkdir(parents=True, exist_ok=True)
    else:
        folder = out / f"{name.replace(', ', '-').replace(' ', '-')}-seed{seed}"
        seconds = trained(name, seed, folder, changes)
        weights = str(folder / "weights.safetensors")
    run: Run = {"seconds": seconds, "parameters": sum(p.numel() for p in load_weights(weights).parameters())}
    return run | {"clips": played_clips(weights, folder), "cases": played_cases(weights, cases, folder)}


def table_of_clips(results: dict[str, list[Run]]) -> str:
    """Return a Markdown table of cost and of Dice on synthetic clips: the mean over seeds, and their range."""
    lines = ["| option | parameters | CPU s | Dice, 1 click | tracked | 5 clicks |", "|---|---:|---:|---:|---:|---:|"]
    for name, runs in results.items():
        scores = [_range([run["clips"][key] for run in runs]) for key in ("val_dice1", "val_tracked", "val_dice5")]
        seconds = np.mean([run["seconds"] for run in runs])
        lines.append(f"| {name} | {runs[0]['parameters']:,} | {seconds:.0f} | " + " | ".join(scores) + " |")
    return "\n".join(lines) + "\n"


def table_of_cases(results: dict[str, list[Run]], cases: Iterable[str], against: Sequence[str]) -> str:
    """Return a Markdown table of Dice by number of clicks, the mean over cases and seeds.

    Args:
        results: runs by option.
        cases: their names.
        against: options; a column for each holds the difference of the mean over clicks from it, with a 95 % interval
            over cases.
    """
    names = list(cases)
    means = {
        option: np.mean([[run["cases"][name] for name in names] for run in results[option]], 0) for option in results
    }
    differences = [option for option in against if option in results]
    head = [*(f"Dice@{count}" for count in COUNTS), *(f"from {option}" for option in differences)]
    lines = ["| option | " + " | ".join(head) + " |", "|---|" + "---:|" * len(head)]
    for option, curves in means.items():
        cells = [f"{curves[:, count - 1].mean():.3f}" for count in COUNTS]
        for other in differences:
            found = estimate((curves - means[other]).mean(1))
            cells.append("" if other == option else f"{found.mean:+.3f}{_interval(found)}")
        lines.append(f"| {option} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _interval(found: Estimate) -> str:
    return "" if found.low is None or found.high is None else f" ({found.low:+.3f} to {found.high:+.3f})"


def _range(values: Sequence[float]) -> str:
    spread = f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


def main(
    real: Annotated[
        Path | None, typer.Option(help="folder of real cases, as for views.py; left out: clips alone")
    ] = None,
    most_voxels: Annotated[int | None, typer.Option(help="of a real case; larger ones are left out")] = None,
    out: Annotated[Path, typer.Option(help="for trainings and tables")] = Path("runs/encoder-options"),
    option: Annotated[list[str] | None, typer.Option(help="a row; again for more; left out: all")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="of trainings; again for more; left out: 1")] = None,
    changes: Annotated[list[str] | None, typer.Option("--set", help="change the recipes, as for synthfm train")] = None,
) -> None:
    """Train, play, and write the tables."""
    torch.set_num_threads(1)
    chosen = option or [PACKAGED, *OPTIONS]
    if unknown := [name for name in chosen if name != PACKAGED and name not in OPTIONS]:
        raise unknown_name("option", unknown[0], (PACKAGED, *OPTIONS))
    cases = [volume for volume in load_cases(real) if volume.image.size <= (most_voxels or np.inf)] if real else []
    results: dict[str, list[Run]] = {name: [] for name in chosen}
    for number in seed or [1]:
        for name in chosen:
            if name != PACKAGED or not results[name]:
                results[name].append(result_of(name, number, out, cases, tuple(changes or ())))
    command = shlex.join(["python", "benchmarks/studies/encoder_dice.py", *sys.argv[1:]])
    text = f"`{command}`, {date.today()}\n\n{CLIPS} clips\n\n{table_of_clips(results)}"
    for group, wanted in (("3D", False), ("2D", True)):
        names = [volume.case_id for volume in cases if (volume.image.shape[0] == 1) is wanted]
        if names:
            text += f"\n{group}, {len(names)} cases\n\n{table_of_cases(results, names, (PACKAGED, 'none'))}"
    write_text(out / "encoder_dice.md", text)
    typer.echo(f"{text}\nwritten to {out / 'encoder_dice.md'}")


if __name__ == "__main__":
    try:
        typer.run(main)
    except InputError as error:
        sys.exit(f"encoder_dice: {error}")
