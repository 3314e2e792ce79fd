"""Voxels as a viewer shows them, in the file's own order, and the same voxels in a loaded volume."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from synthfm_env.prompts import Click
from synthfm_env.volumes import Volume


def clicks_in_volume(clicks: list[Click], path: Path, volume: Volume) -> list[Click]:
    """Return clicks given as stored in a NIfTI file as clicks in the volume that ``load_volume`` made of it.

    Loading turns a file to RAS+, so the first voxel stored is in general not the first voxel of the volume.

    Args:
        clicks: in the file's order: z, y, x count along its third, second and first axis, from 0.
        path: the file.
        volume: ``load_volume(path)``.

    Raises:
        InputError: a click lies outside the file's grid.
    """
    file: Any = nib.load(path)
    shape = np.array((*file.shape, 1, 1)[:3])
    for click in clicks:
        click.check_inside(tuple(shape[::-1].tolist()))
    # Both affines lead along the same axes, so this is a permutation with signs, up to the unit of length.
    assert volume.affine is not None, "a volume from a file has an affine"
    turn = np.linalg.inv(volume.affine[:3, :3]) @ file.affine[:3, :3]
    turn = np.where(np.abs(turn) == np.abs(turn).max(axis=0), np.sign(turn), 0).astype(int)
    first = np.where(turn.sum(axis=1) < 0, np.abs(turn) @ (shape - 1), 0)
    moved = [turn @ np.array(click.zyx[::-1]) + first for click in clicks]
    return [Click((int(z), int(y), int(x)), click.positive) for click, (x, y, z) in zip(clicks, moved, strict=True)]
