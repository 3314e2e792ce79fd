"""Draws random crops of recorded inputs, mirrored and with axes exchanged, to train the refiner."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from synthfm_env.geometry import FEWEST_SLICES
from synthfm_env.segmenters.sam2.multiview.refiner_input import IMAGE_CHANNELS
from synthfm_train.refiner.recording import load_input

_INVERTED = 0.3  # share of crops whose image is inverted


class Crop(NamedTuple):
    """One training example of the refiner: a crop of (d, h, w) voxels.

    Attributes:
        channels: float32 (CHANNELS, d, h, w), the refiner's input.
        logits: float32 (d, h, w), to which the refiner adds.
        truth: float32 (d, h, w), share of each voxel that the structure covers.
    """

    channels: Tensor
    logits: Tensor
    truth: Tensor


class Crops(Dataset[Crop]):
    """Dataset of random crops. Crop i depends on the seed and i only, not on the worker that draws it."""

    def __init__(self, paths: Sequence[Path], sides: tuple[int, int], seed: int, first: int, count: int) -> None:
        """Choose files and crops.

        Args:
            paths: files of recorded inputs.
            sides: fewest and most voxels along a side.
            seed: of the crops.
            first: number of the first crop.
            count: number of crops.
        """
        self._paths, self._sides, self._seed, self._first, self._count = paths, sides, seed, first, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Crop:
        # A recorded input: channels, logits and truth as one tensor, so that all are cut and turned alike.
        rng = np.random.default_rng((self._seed, self._first + index, 0xC207))
        inputs, truth = load_input(self._paths[int(rng.integers(len(self._paths)))])
        whole = torch.cat((inputs.channels(), inputs.logits[None], truth[None]))
        # A random crop of it.
        sides = [min(n, int(rng.integers(self._sides[0], self._sides[1] + 1))) for n in truth.shape]
        starts = [int(rng.integers(0, n - side + 1)) for n, side in zip(truth.shape, sides, strict=True)]
        part = whole[:, *(slice(start, start + side) for start, side in zip(starts, sides, strict=True))]
        # Mirrored, with axes exchanged.
        mirrored = [axis for axis in (1, 2, 3) if rng.random() < 0.5]
        # SAM 2 tracks a crop of few slices along z alone, so z is not exchanged with y or x.
        order = rng.permutation(3) if truth.shape[0] >= FEWEST_SLICES else np.array([0, *(1 + rng.permutation(2))])
        part = part.flip(mirrored).permute(0, *(int(axis) + 1 for axis in order))
        # The image inverted.
        channels, logits, truth = part[:-2].contiguous(), part[-2].contiguous(), part[-1].contiguous()
        if rng.random() < _INVERTED:
            channels[-IMAGE_CHANNELS:] *= -1
        return Crop(channels, logits, truth)
