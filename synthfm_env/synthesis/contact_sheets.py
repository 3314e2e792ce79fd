"""Draws a contact sheet of volumes: three planes of each, with the contours of their structures."""

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthfm_env.errors import InputError
from synthfm_env.files import atomic_write
from synthfm_env.synthesis.generator import SynthFM3D
from synthfm_env.synthesis.recipe import GeneratorRecipe, load_recipe
from synthfm_env.volumes.intensity import to_uint8
from synthfm_env.volumes.volume import Volume


def preview_volumes(
    shape: Sequence[int], recipe: str | Path | dict[str, Any] | GeneratorRecipe, seed: int, each: int = 3
) -> list[Volume]:
    """Draw some volumes of every style in a recipe.

    Args:
        shape: (D, H, W) of the volumes.
        recipe: see ``SynthFM3D``.
        seed: of the first volume of each style; the next ones have the next seeds.
        each: number of volumes of each style.
    """
    whole = load_recipe(recipe)
    volumes = []
    for style, weight in whole.styles.items():
        if weight:
            maker = SynthFM3D(shape, whole.model_copy(update={"styles": {style: 1.0}}))
            volumes += [maker.sample(seed + i) for i in range(each)]
    return volumes


def checked_sheet(path: str | Path) -> Path:
    """Check the path of a contact sheet, before time is spent on volumes, and return it.

    Raises:
        InputError: matplotlib is not installed, the name has another ending than .png, .pdf or .svg, or the folder does
            not exist.
    """
    if find_spec("matplotlib") is None:
        raise InputError("a preview needs matplotlib; `pip install 'synthfm_env[plot]'`")
    target = Path(path)
    kinds = (".png", ".pdf", ".svg")
    if target.suffix not in kinds:
        raise InputError(f"preview {target}: expected a name that ends in {', '.join(kinds)}")
    if not os.path.isdir(target.parent):
        raise InputError(f"preview {target}: there is no folder {target.parent}; make it, or name another")
    return target


def contact_sheet(volumes: Sequence[Volume], path: str | Path, columns: int = 2) -> None:
    """Draw three planes of each volume on one picture, without and with contours of its structures.

    Args:
        volumes: synthetic or real, with a label; of 2D images the one slice is drawn.
        path: of the picture, a .png, .pdf or .svg; it appears complete or not at all.
        columns: number of volumes in a row.

    Raises:
        InputError: matplotlib is not installed, there is nothing to draw, or the file cannot be written.
    """
    target = checked_sheet(path)
    import matplotlib
    from matplotlib.figure import Figure

    if not volumes:
        raise InputError(f"preview {target}: no volumes to draw")
    # A grid of cells: for each plane of each volume one without and one with contours.
    planes = 1 if all(v.image.shape[0] == 1 for v in volumes) else 3
    rows = -(-len(volumes) // columns)
    figure = Figure(figsize=(columns * planes * 2 * 1.5, rows * 1.65), layout="constrained")
    axes = np.atleast_2d(figure.subplots(rows, columns * planes * 2, squeeze=False))
    for axis in axes.ravel():
        axis.axis("off")
    # Fill the cells of each volume.
    colours = matplotlib.colormaps["tab20"]
    for k, volume in enumerate(volumes):
        row, start = divmod(k, columns)
        cells = axes[row, start * planes * 2 : (start + 1) * planes * 2]
        cells[0].set_title(f"{volume.modality}  {volume.case_id}", fontsize=5, loc="left", pad=2)
        for i, (image, label, aspect) in enumerate(_cuts(volume)):
            for cell in cells[2 * i : 2 * i + 2]:
                cell.imshow(image, cmap="gray", vmin=0, vmax=255, aspect=aspect, interpolation="nearest")
            for structure in np.unique(label[label > 0]):
                colour = colours(int(structure) % 20)
                cells[2 * i + 1].contour(label == structure, [0.5], colors=[colour], linewidths=0.5)
    try:
        with atomic_write(target) as file:
            figure.savefig(file, dpi=110, format=target.suffix[1:])
    except OSError as error:
        raise InputError(f"preview {target}: cannot be written ({error.strerror or error})") from error


def _cuts(volume: Volume) -> list[tuple[NDArray[np.uint8], NDArray[np.integer], float]]:
    """Return (image, label, aspect) of each plane through the slices that show the most structures."""
    image = to_uint8(volume.image, volume.modality)
    label = np.zeros(image.shape, np.int16) if volume.label is None else volume.label
    cuts = []
    for axis in range(1 if image.shape[0] == 1 else 3):
        slices = [(len(np.unique(s)), int(np.count_nonzero(s))) for s in np.moveaxis(label, axis, 0)]
        at = max(range(len(slices)), key=slices.__getitem__)
        down, across = (a for a in range(3) if a != axis)
        plane = np.moveaxis(image, axis, 0)[at], np.moveaxis(label, axis, 0)[at]
        cuts.append((*plane, volume.spacing[down] / volume.spacing[across]))
    return cuts
