"""``synthfm challenge``: write a competition for Codabench."""

import os
from pathlib import Path
from typing import Annotated

import typer

from synthfm_env.errors import InputError


def challenge(
    suite: Annotated[str, typer.Argument(metavar="SUITE", help="a synthetic suite, as synthetic-3d")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="the bundle, .zip")],
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="secret; whoever knows it can draw the volumes")],
    image: Annotated[str, typer.Option(metavar="IMAGE", help="a Docker image with synthfm_env in it")],
) -> None:
    """Write a bundle that Codabench imports as a competition: volumes from a secret seed, which nobody has beforehand.

    `synthfm challenge synthetic-3d --seed 918273645 --image my-lab/synthfm:1 -o bundle.zip`
    """
    from synthfm_bench.publish.codabench import write_bundle

    if output.suffix != ".zip":
        raise InputError(f"-o {output}: a bundle is a zip file, so its name ends in .zip")
    if not os.path.isdir(output.parent):
        raise InputError(f"-o {output}: there is no folder {output.parent}; make it first")
    write_bundle(output, suite, seed, image)
    typer.echo(f"{output}: import it at https://www.codabench.org/competitions/upload/, and keep the seed to yourself")
