"""``synthfm segment``: segment one structure from clicks."""

from pathlib import Path
from typing import Annotated

import typer

from synthfm_bench.cli.messages import import_from_here, on_interrupt
from synthfm_bench.cli.options import NANO, Modality, modality_named


def segment(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="a NIfTI file, or the folder of a DICOM series")],
    click: Annotated[
        list[str],
        typer.Option(metavar="Z,Y,X,+|-", help="inside (+) or outside (-) the structure; again for more"),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="the mask: .nii, .nii.gz or .dcm")],
    segmenter: Annotated[
        str, typer.Option(metavar="NAME", help="from `synthfm list segmenters`, or a weights file")
    ] = NANO,
    modality: Modality = None,
) -> None:
    """Segment one structure of a volume from a few clicks.

    `synthfm segment ct.nii.gz --click 40,120,96,+ --click 40,150,96,- -o mask.nii.gz`

    A click names a voxel as the file stores it, and as 3D Slicer shows it under K, J, I: z counts along the
    file's third axis, y along its second, x along its first, all from 0. The mask is on the grid of the input. Of a
    DICOM series z counts slices, y rows and x columns, and a mask named .dcm is written as DICOM SEG.
    """
    from rich.console import Console

    from synthfm_env.plural import plural
    from synthfm_env.prompts import Click
    from synthfm_env.segmenters import make_segmenter
    from synthfm_env.volumes import to_uint8
    from synthfm_env.volumes.image_files import check_mask_path, clicks_as_stored, open_image, write_mask

    import_from_here()
    check_mask_path(output, image)
    clicks = [Click.parse(text) for text in click]
    with (
        on_interrupt(f"stopped: {output} was not written"),
        Console(stderr=True).status(f"{segmenter}: {image}"),
    ):
        volume = open_image(image, modality_named(modality))
        placed = clicks_as_stored(clicks, image, volume)
        with make_segmenter(segmenter).start(to_uint8(volume.image, volume.modality), volume.spacing) as session:
            answers = [session.add(one) for one in placed]
        write_mask(answers[-1].mask, volume, output)
    voxels = int(answers[-1].mask.sum())
    millilitres = voxels * volume.spacing[0] * volume.spacing[1] * volume.spacing[2] / 1000
    typer.echo(f"{output}: {voxels} voxels, {millilitres:.2f} ml, from {plural(len(clicks), 'click')}")
    typer.echo(
        "next: open image and mask together in a viewer, then add a --click where the mask is wrong"
        if voxels
        else "the mask is empty: add a positive --click inside the structure"
    )
