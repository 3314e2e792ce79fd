"""``synthfm segment``: segment one structure from clicks."""

import os
from pathlib import Path
from typing import Annotated

import typer

from synthfm_bench.cli.messages import import_from_here, on_interrupt
from synthfm_bench.cli.options import NANO, Modality, modality_named
from synthfm_env.errors import InputError


def segment(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="a NIfTI file with one volume or 2D image")],
    click: Annotated[
        list[str],
        typer.Option(metavar="Z,Y,X,+|-", help="inside (+) or outside (-) the structure; again for more"),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="the mask, .nii or .nii.gz")],
    segmenter: Annotated[
        str, typer.Option(metavar="NAME", help="from `synthfm list segmenters`, or a weights file")
    ] = NANO,
    modality: Modality = None,
) -> None:
    """Segment one structure of a volume from a few clicks.

    `synthfm segment ct.nii.gz --click 40,120,96,+ --click 40,150,96,- -o mask.nii.gz`

    A click names a voxel as the file stores it, and as 3D Slicer shows it under K, J, I: z counts along the
    file's third axis, y along its second, x along its first, all from 0. The mask is on the grid of the input.
    """
    from rich.console import Console

    from synthfm_env.prompts import Click
    from synthfm_env.segmenters import make_segmenter
    from synthfm_env.volumes import load_volume, save_mask, to_uint8
    from synthfm_env.volumes.viewer_coordinates import clicks_in_volume

    import_from_here()
    _check_mask_path(output, image)
    clicks = [Click.parse(text) for text in click]
    with (
        on_interrupt(f"stopped: {output} was not written"),
        Console(stderr=True).status(f"{segmenter}: {image}"),
    ):
        volume = load_volume(image, modality=modality_named(modality))
        placed = clicks_in_volume(clicks, image, volume)
        with make_segmenter(segmenter).start(to_uint8(volume.image, volume.modality), volume.spacing) as session:
            answers = [session.add(one) for one in placed]
        save_mask(answers[-1].mask, volume, output)
    voxels = int(answers[-1].mask.sum())
    millilitres = voxels * volume.spacing[0] * volume.spacing[1] * volume.spacing[2] / 1000
    typer.echo(f"{output}: {voxels} voxels, {millilitres:.2f} ml, from {len(clicks)} click{'s' * (len(clicks) > 1)}")
    typer.echo(
        "next: open image and mask together in a viewer, then add a --click where the mask is wrong"
        if voxels
        else "the mask is empty: add a positive --click inside the structure"
    )


def _check_mask_path(output: Path, image: Path) -> None:
    """Raise InputError, before any work, where the mask could not be written or would replace the image."""
    if not output.name.endswith((".nii", ".nii.gz")):
        raise InputError(f"-o {output}: a mask is written as NIfTI, so its name ends in .nii or .nii.gz")
    if not output.parent.is_dir():
        raise InputError(f"-o {output}: there is no folder {output.parent}; make it first")
    if os.path.realpath(output) == os.path.realpath(image):
        raise InputError(f"-o {output}: is the image itself; give the mask another name")
