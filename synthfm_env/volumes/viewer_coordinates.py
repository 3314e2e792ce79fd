"""Converts voxel indices of a viewer, which follow the stored file, to those of a loaded volume."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from synthfm_env.prompts import Click
from synthfm_env.volumes import Volume


def clicks_in_volume(clicks: list[Click], path: Path, volume: Volume) -> list[Click]:
    """Convert clicks in a stored NIfTI file to clicks in the volume that ``load_volume`` returns for it.

    Loading reorients a file to RAS+, so the first stored voxel is in general not the first voxel of the volume.

    Args:
        clicks: z, y, x count along the file's third, second and first axis, from 0.
        path: the file.
        volume: ``load_volume(path)``.

    Raises:
        InputError: a click is outside the file's grid.
    """
    file: Any = nib.load(path)
    shape = np.array((*file.shape, 1, 1)[:3])
    for click in clicks:
        click.check_inside(tuple(shape[::-1].tolist()))
    # Both affines have the same axes, so the transform between them is a permutation with signs, up to a factor.
    assert volume.affine is not None, "a volume from a file has an affine"
    transform = np.linalg.inv(volume.affine[:3, :3]) @ file.affine[:3, :3]
    largest = np.abs(transform) == np.abs(transform).max(axis=0)
    transform = np.where(largest, np.sign(transform), 0).astype(int)
    first = np.where(transform.sum(axis=1) < 0, np.abs(transform) @ (shape - 1), 0)
    moved = [transform @ np.array(click.zyx[::-1]) + first for click in clicks]
    return [Click((int(z), int(y), int(x)), click.positive) for click, (x, y, z) in zip(clicks, moved, strict=True)]
