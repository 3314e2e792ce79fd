"""``synthfm generate``: write synthetic volumes."""

import re
from pathlib import Path
from typing import Annotated

import typer

from synthfm_bench.cli.messages import on_interrupt
from synthfm_env.errors import InputError
from synthfm_env.printable import printable


def generate(
    out: Annotated[
        Path | None, typer.Argument(metavar="OUT", help="folder for the volumes; may be left out with --preview")
    ] = None,
    count: Annotated[int, typer.Option("-n", "--count", min=1, metavar="N", help="how many volumes")] = 10,
    shape: Annotated[str, typer.Option(metavar="Z,Y,X", help="voxels of each; 1,Y,X for 2D images")] = "64,128,128",
    recipe: Annotated[
        str, typer.Option(metavar="NAME", help="any, ct, mr, us, other, synthfm2d, ... or a TOML file")
    ] = "any",
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="of the first volume; the next has the next one")] = 0,
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="processes, as many as cores by default; files stay the same")
    ] = None,
    preview: Annotated[
        Path | None, typer.Option(metavar="FILE", help="write a contact sheet too, a PNG to look at the recipe")
    ] = None,
) -> None:
    """Write SynthFM-3D volumes with their labels, as NIfTI files in nnU-Net's layout.

    `synthfm generate volumes --count 100 --recipe ct` writes a hundred. Run again, it goes on where it was stopped.
    """
    from rich.console import Console

    from synthfm_bench.execution.local_pool import default_workers
    from synthfm_env.synthesis.export import export_volumes

    if out is None and preview is None:
        raise InputError("synthfm generate: name a folder for the volumes, or --preview FILE for a picture alone")
    if not re.fullmatch(r"[0-9]{1,9},[0-9]{1,9},[0-9]{1,9}", shape):
        raise InputError(f"--shape {printable(shape, 80)}: expected three voxel counts z,y,x, for example 64,128,128")
    grid = [int(n) for n in shape.split(",")]
    console = Console(stderr=True)
    with on_interrupt("stopped: the volumes that are complete are kept; run the same command again to go on"):
        done = export_volumes(
            out,
            count,
            grid,
            recipe=recipe,
            seed=seed,
            workers=workers or default_workers(),
            preview=preview,
            console=console if console.is_terminal else None,
        )
    if out is not None:
        there = f", {done.kept} were there already" if done.kept else ""
        typer.echo(f"{out}: {done.written} volumes written{there} (imagesTr, labelsTr, dataset.json, manifest.jsonl)")
        label = min((out / "labelsTr").iterdir())
        image = out / "imagesTr" / label.name.replace(".nii", "_0000.nii")
        typer.echo(f"next: synthfm bench quick --image {image} --label {label}")
    if preview is not None:
        typer.echo(f"preview: {preview}")
