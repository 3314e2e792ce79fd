"""``synthfm train``: train a segmenter."""

from pathlib import Path
from typing import Annotated

import typer

from synthfm_bench.cli.messages import on_interrupt
from synthfm_bench.cli.options import NANO


def train(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="a packaged one such as synthfm3d-nano, or a TOML file")
    ],
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="change the recipe: seed=1, phases.0.steps=20 ..."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on from the folder's checkpoint")] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="for the training, runs/train-RECIPE by default")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1")] = "auto",
    devices: Annotated[
        int, typer.Option(min=1, help="GPUs, or processes on the CPU, that share each step's volumes")
    ] = 1,
    workers: Annotated[
        int | None, typer.Option(min=0, help="processes that make volumes, for each device; by default the cores left")
    ] = None,
) -> None:
    """Train a segmenter on SynthFM-3D volumes, which are made as it goes.

    `synthfm train synthfm3d-nano` trains the packaged SAM 2, `synthfm train synthfm3d-unet` the packaged volume
    network, `synthfm train synthfm2d-unet` that for images. Other recipes: synthfm3d-hiera-tiny and synthfm2d
    fine-tune an official checkpoint on a GPU, ablation-shape, ablation-boundary and ablation-both take minutes. The
    folder gets the best weights, metrics.jsonl, pictures of the validation and a checkpoint to --resume from.
    """
    from synthfm_train.run import train as run_training

    folder = out or Path("runs") / f"train-{Path(recipe).stem}"
    with on_interrupt("stopped before the first step"):
        best = run_training(
            recipe,
            out=folder,
            overrides=tuple(changes or ()),
            resume=resume,
            device=device,
            devices=devices,
            workers=workers,
        )
    typer.echo(f"weights: {best}")
    typer.echo(f"next: synthfm bench quick --segmenter {best} --segmenter {NANO}")
