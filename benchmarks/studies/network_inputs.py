"""Measures what input channels and each half of the generator are worth to the volume network, on real cases.

``python benchmarks/studies/network_inputs.py FOLDER --out runs/network-inputs`` trains a short version of
``synthfm3d-unet`` for each row of the table and each seed, plays the weights on the volumes of ``FOLDER`` (see
``real_cases.py``) under ``ritm-3d-v1``, and writes ``network_inputs.md``. Channels are hidden by zeros, in training and
afterwards. The click prior, which is added to the network's logits, is the same in all rows. About ten minutes a
training on one CPU core. What is there already is not done again, so it can be stopped and called once more.
"""

import json
import shlex
import sys
from datetime import date
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import torch
import typer
from real_cases import Played, load_cases, play
from rich.console import Console
from rich.progress import track

from synthfm_env import InputError
from synthfm_env.files import write_text
from synthfm_env.segmenters.volume_network.network import VolumeNetwork
from synthfm_env.segmenters.volume_network.network_input import NetworkInput
from synthfm_env.segmenters.volume_network.segmenter import VolumeNetworkSegmenter
from synthfm_env.segmenters.volume_network.weights import load_network
from synthfm_train.loop import LoopSettings, TrainingLoop
from synthfm_train.run_directory import RunFolder
from synthfm_train.volume_network.objective import NetworkObjective
from synthfm_train.volume_network.recipe import load_network_recipe

SHOWN = (1, 3, 5, 10)


class Variant(NamedTuple):
    """One row of the table.

    Attributes:
        title: in the table.
        fine: fine channels to hide, by index.
        coarse: whether to hide the coarse channels, the geodesic distances.
        recipes: of the generator.
    """

    title: str
    fine: tuple[int, ...] = ()
    coarse: bool = False
    recipes: str = "['any','any','boundary-only']"


VARIANTS = {
    "all": Variant("everything"),
    "no-likeness": Variant("no likeness to clicked grey values", fine=(1, 2)),
    "no-distances": Variant("no geodesic distances", coarse=True),
    "shape": Variant("shape-aware volumes alone", recipes="['shape-only']"),
    "boundary": Variant("boundary-aware volumes alone", recipes="['boundary-only']"),
}


def hide(network: VolumeNetwork, variant: Variant) -> None:
    """Make a network see zeros in a variant's hidden channels; copies of the network do too."""

    def hidden(_: VolumeNetwork, arguments: tuple[NetworkInput]) -> tuple[NetworkInput]:
        fine, coarse = arguments[0]
        if variant.fine:
            fine = fine.clone()
            fine[:, list(variant.fine)] = 0
        return (NetworkInput(fine, torch.zeros_like(coarse) if variant.coarse else coarse),)

    network.register_forward_pre_hook(hidden)


def trained(name: str, seed: int, out: Path, steps: int) -> Path:
    """Return the weights of one variant and seed, trained now unless they are there, or as far as a checkpoint."""
    folder = out / f"{name}-seed{seed}"
    finished = folder / "finished"
    if finished.exists():
        return folder / "weights.safetensors"
    phase = f"{{steps={steps},grid=[24,24,24],flat_grid=[8,32,32],flat_share=0.12,batch=12,warmup=100,final_lr=0.02}}"
    recipe = load_network_recipe(
        "synthfm3d-unet",
        (f"seed={seed}", f"phases=[{phase}]", f"data.recipes={VARIANTS[name].recipes}", f"evaluate_every={steps}"),
    )
    objective = NetworkObjective(recipe, torch.device("cpu"), workers=1)
    hide(objective.model, VARIANTS[name])
    settings = LoopSettings(recipe.clip_norm, 0.99, recipe.evaluate_every, recipe.checkpoint_every)
    TrainingLoop(objective, RunFolder(folder), settings, resume=(folder / "checkpoint.pt").exists()).run()
    finished.touch()
    return folder / "weights.safetensors"


def played_on(name: str, weights: Path, cases: Path, most: int) -> list[Played]:
    """Play all volumes with one set of weights, or read what was played."""
    kept = weights.with_name("episodes.jsonl")
    if kept.exists():
        return [Played(**json.loads(line)) for line in kept.read_text(encoding="utf-8").splitlines()]
    network = load_network(weights)
    hide(network, VARIANTS[name])
    segmenter = VolumeNetworkSegmenter(str(weights), {3: network}, torch.device("cpu"))
    volumes = [volume for volume in load_cases(cases) if volume.image.shape[0] > 1]
    shown = track(volumes, weights.parent.name, console=Console(stderr=True))
    episodes = [episode for volume in shown for episode in play(volume, segmenter, most)]
    write_text(kept, "".join(json.dumps(episode._asdict()) + "\n" for episode in episodes))
    return episodes


def mean_over_cases(episodes: list[Played], click: int) -> float:
    """Return the mean Dice after a click: first over the structures of a case, then over cases."""
    by_case: dict[str, list[float]] = {}
    for episode in episodes:
        by_case.setdefault(episode.case, []).append(episode.dice[click - 1])
    return float(np.mean([np.mean(values) for values in by_case.values()]))


def table_of(played: dict[str, list[list[Played]]]) -> str:
    """Return a Markdown table: for each variant the mean over seeds, and the seeds' range."""
    lines = ["| trained with | " + " | ".join(f"Dice@{count}" for count in SHOWN) + " |", "|---|" + "---|" * len(SHOWN)]
    for name, runs in played.items():
        cells = []
        for count in SHOWN:
            means = [mean_over_cases(episodes, count) for episodes in runs]
            spread = f" ({min(means):.3f} to {max(means):.3f})" if len(means) > 1 else ""
            cells.append(f"{np.mean(means):.3f}{spread}")
        lines.append(f"| {VARIANTS[name].title} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main(
    cases: Annotated[Path, typer.Argument(metavar="FOLDER", help="real cases, as for real_cases.py")],
    out: Annotated[Path, typer.Option(help="for trainings, episodes and the table")] = Path("runs/network-inputs"),
    seeds: Annotated[int, typer.Option(min=1, help="trainings of each row, seeds 1, 2 ...")] = 1,
    steps: Annotated[int, typer.Option(min=1, help="of each training")] = 600,
    most: Annotated[int, typer.Option(min=1, help="structures of each case")] = 2,
) -> None:
    """Train, play, and write the table."""
    torch.set_num_threads(1)
    load_cases(cases)  # what is wrong with the folder shows before an hour of training
    played: dict[str, list[list[Played]]] = {name: [] for name in VARIANTS}
    for seed in range(1, seeds + 1):
        for name in VARIANTS:
            played[name].append(played_on(name, trained(name, seed, out, steps), cases, most))
    command = shlex.join(["python", "benchmarks/studies/network_inputs.py", *sys.argv[1:]])
    text = f"`{command}`, {date.today()}; {steps} steps of 12 crops.\n\n{table_of(played)}"
    write_text(out / "network_inputs.md", text)
    typer.echo(f"{text}\nwritten to {out / 'network_inputs.md'}")


if __name__ == "__main__":
    try:
        typer.run(main)
    except InputError as error:
        sys.exit(f"network_inputs: {error}")
