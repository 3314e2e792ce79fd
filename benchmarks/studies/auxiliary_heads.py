"""SAM2-3dMed's ablation: slice relative position prediction, boundary detection, both or none.

``python benchmarks/studies/auxiliary_heads.py`` trains ``ablation-3dmed`` with each pair of weights, once for each
seed, plays 24 clips of volumes that no training saw (one click on the first slice, the others tracked), and writes
``auxiliary_heads.md`` and ``clips.json`` of each run. What is there already is not done again, so seeds may run apart.
About a minute a training on one CPU core.
"""

import json
import shlex
import sys
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch.utils.data import default_collate

from synthfm_env import InputError
from synthfm_env.files import write_text
from synthfm_env.metrics import Surfaces, dice, iou
from synthfm_env.segmenters.sam2 import load_weights, set_image_size
from synthfm_env.segmenters.sam2.tracking.frames import normalise
from synthfm_train.checkpoint import load_checkpoint
from synthfm_train.run import train
from synthfm_train.sam2.clip_dataset import ClipDataset, Clips, masks_of
from synthfm_train.sam2.recipe import Phase, load_recipe
from synthfm_train.sam2.relative_position import RelativePositionHead, relative_position_loss
from synthfm_train.sam2.rollout import Rollout, encode_slices

RECIPE = "ablation-3dmed"
WEIGHTS = {"none": (0.0, 0.0), "SRPP": (0.01, 0.0), "BD": (0.0, 0.1), "both": (0.01, 0.1)}  # the paper's
SCORES = ("Dice", "IoU", "HD95", "NSD")
_FIRST_SEED = 910_000_000_000  # apart from the volumes of trainings and of their validation
_CLIPS, _BATCH, _SLICES = 24, 8, 4
_TOLERANCE = 1.0  # pixels, of the NSD

Scores = dict[str, Any]


def trained(variant: str, seed: int, out: Path, changes: tuple[str, ...]) -> Path:
    """Return the folder of one training, trained now unless it is there."""
    folder, (positions, boundaries) = out / f"{variant}-seed{seed}", WEIGHTS[variant]
    if not (folder / "finished").exists():
        own = (f"phases.0.relative_position={positions}", f"phases.0.boundary={boundaries}", f"seed={seed}")
        train(RECIPE, out=folder, overrides=(*changes, *own), device="cpu", workers=0)
        (folder / "finished").touch()
    return folder


def held_out(changes: tuple[str, ...]) -> list[Clips]:
    """Return the clips to be played, in batches."""
    recipe = load_recipe(RECIPE, changes)
    phase = Phase(steps=1, cuts=1, slices=_SLICES, objects=1)
    dataset = ClipDataset(recipe.data, phase, recipe.phases[0].image_size or 64, _FIRST_SEED, _CLIPS)
    clips = [dataset[i] for i in range(_CLIPS)]
    return [default_collate(clips[start : start + _BATCH]) for start in range(0, _CLIPS, _BATCH)]


@torch.no_grad()
def played(folder: Path, batches: list[Clips]) -> Scores:
    """Return each clip's scores, and the errors of the head of slice positions if there is one; kept in the folder."""
    kept = folder / "clips.json"
    if kept.exists():
        scores: Scores = json.loads(kept.read_text(encoding="utf-8"))
        return scores
    model = load_weights(str(folder / "weights.safetensors"))
    scores = {name: [] for name in SCORES}
    for number, batch in enumerate(batches):
        frames, truth = normalise(batch.frames[:, 0, :, None]), masks_of(batch.labels[:, 0], batch.targets[:, 0])
        rollout = Rollout(model, frames, truth, torch.Generator().manual_seed(number))
        rollout.click(0)
        rollout.remember(0, clicked=True)
        for t in range(1, _SLICES):
            rollout.track(t)
        masks = torch.stack([rollout.mask(t) for t in range(_SLICES)], 1).numpy()
        for mask, true in zip(masks, truth[:, 0].numpy(), strict=True):
            surfaces = Surfaces.between(mask, true, (1.0, 1.0, 1.0))
            values = (dice(mask, true), iou(mask, true), surfaces.hausdorff(95), surfaces.nsd(_TOLERANCE))
            for name, value in zip(SCORES, values, strict=True):
                scores[name].append(float(value))
    scores |= positions_of(folder, batches)
    write_text(kept, json.dumps(scores))
    return scores


def positions_of(folder: Path, batches: list[Clips]) -> Scores:
    """Return the mean squared error of predicted offsets and their share of right signs; empty without a head."""
    state = load_checkpoint(folder / "checkpoint.pt")
    mine = {k.removeprefix("relative_position."): v for k, v in state["objective"]["heads"].items()}
    mine = {k: v for k, v in mine.items() if k.startswith(("squeeze.", "embed.", "pair."))}
    if not mine:
        return {}
    model = load_weights(str(folder / "weights.safetensors"))
    model.load_state_dict(state["model"])  # not the moving average: the head was trained with this one
    set_image_size(model, batches[0].frames.shape[-1])
    head = RelativePositionHead(model.hidden_dim)
    head.load_state_dict(mine)
    frames = torch.cat([batch.frames[:, 0] for batch in batches])
    maps, _ = encode_slices(model, normalise(frames.flatten(0, 1)[:, None]))
    predicted = head(maps[-1].unflatten(0, frames.shape[:2]))
    right = [predicted[:, i, j].sign() == np.sign(j - i) for i in range(_SLICES) for j in range(_SLICES) if i != j]
    share = torch.stack(right).float().mean()
    return {"error": float(relative_position_loss(predicted)), "right sign": float(share)}


def table_of(results: dict[tuple[str, int], Scores]) -> str:
    """Return a Markdown table: the mean over seeds of the mean over clips (HD95: median), and the seeds' range."""
    head = [*SCORES, "offset error", "right sign"]
    lines = ["| losses | " + " | ".join(head) + " |", "|---|" + "---:|" * len(head)]
    for variant in WEIGHTS:
        runs = [scores for (name, _), scores in results.items() if name == variant]
        cells = [_cell([float((np.median if s == "HD95" else np.mean)(run[s])) for run in runs]) for s in SCORES]
        cells += [_cell([run[s] for run in runs if s in run]) for s in ("error", "right sign")]
        lines.append(f"| {variant} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(values: list[float]) -> str:
    """Return the mean of seeds with their range."""
    return f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})" if values else "-"


def main(
    out: Annotated[Path, typer.Option(help="for trainings and the table")] = Path("runs/auxiliary-heads"),
    seed: Annotated[
        list[int] | None, typer.Option(help="train with this seed, again for more; by default 1 to 3")
    ] = None,
    changes: Annotated[list[str] | None, typer.Option("--set", help="change the recipe, as for synthfm train")] = None,
) -> None:
    """Train, play, and write the table."""
    torch.set_num_threads(1)
    overrides = tuple(changes or ())
    batches = held_out(overrides)
    results = {}
    for number in seed or [1, 2, 3]:
        for variant in WEIGHTS:
            results[variant, number] = played(trained(variant, number, out, overrides), batches)
    command = shlex.join(["python", "benchmarks/studies/auxiliary_heads.py", *sys.argv[1:]])
    chance = _SLICES * (_SLICES + 1) / 6
    text = (
        f"`{command}`, {date.today()}; {_CLIPS} clips, mean over {len(seed or [1, 2, 3])} seeds (lowest to highest); "
        f"HD95 in pixels, its median; NSD at {_TOLERANCE:g} pixel. A head that answers 0 has an offset error of "
        f"{chance:.2f}.\n\n{table_of(results)}"
    )
    write_text(out / "auxiliary_heads.md", text)
    typer.echo(f"{text}\nwritten to {out / 'auxiliary_heads.md'}")


if __name__ == "__main__":
    try:
        typer.run(main)
    except InputError as error:
        sys.exit(f"auxiliary_heads: {error}")
