"""Random pieces of drafts, turned and mirrored, for the refiner to learn from."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from synthfm_train.refiner.recording import load_draft

_FLAT = 8  # an axis of fewer voxels is not exchanged with a longer one: the engine sees such boxes along z alone
_IMAGES = 2  # of a draft's last channels show the image
_INVERTED = 0.3


class Crop(NamedTuple):
    """What the refiner sees, the logits that it adds to, and the truth, on (d, h, w) voxels.

    Attributes:
        channels: float32 (CHANNELS, d, h, w).
        logits: float32 (d, h, w).
        truth: float32 (d, h, w), 0 to 1.
    """

    channels: Tensor
    logits: Tensor
    truth: Tensor


class Crops(Dataset[Crop]):
    """Crop i follows from the seed and i, whichever worker makes it."""

    def __init__(self, paths: Sequence[Path], sides: tuple[int, int], seed: int, first: int, count: int) -> None:
        """Take drafts' files, the least and most voxels along a side, and which of all crops to make."""
        self._paths, self._sides, self._seed, self._first, self._count = paths, sides, seed, first, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Crop:
        rng = np.random.default_rng((self._seed, self._first + index, 0xC207))
        draft, truth = load_draft(self._paths[int(rng.integers(len(self._paths)))])
        whole = torch.cat((draft.channels(), draft.logits[None], truth[None]))
        sides = [min(n, int(rng.integers(self._sides[0], self._sides[1] + 1))) for n in truth.shape]
        starts = [int(rng.integers(0, n - side + 1)) for n, side in zip(truth.shape, sides, strict=True)]
        part = whole[:, *(slice(start, start + side) for start, side in zip(starts, sides, strict=True))]
        mirrored = [axis for axis in (1, 2, 3) if rng.random() < 0.5]
        order = rng.permutation(3) if truth.shape[0] >= _FLAT else np.array([0, *(1 + rng.permutation(2))])
        part = part.flip(mirrored).permute(0, *(int(axis) + 1 for axis in order))
        channels, logits, truth = part[:-2].contiguous(), part[-2].contiguous(), part[-1].contiguous()
        if rng.random() < _INVERTED:
            channels[-_IMAGES:] *= -1
        return Crop(channels, logits, truth)
