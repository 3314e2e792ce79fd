"""Reads real volumes of data sets for training clips."""

from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from synthfm_env.errors import InputError
from synthfm_env.volumes import Volume
from synthfm_env.volumes.datasets import get_layout
from synthfm_env.volumes.datasets.base import Item
from synthfm_env.volumes.datasets.split import train_test_split
from synthfm_train.recipe_io import Seed, Strict

Side = Literal["train", "validation"]

_VALIDATES = 10
"""Every tenth patient outside the test part is for validation."""


class DatasetSource(Strict):
    """Patients of a data set as its host ships it. Those of the test part are never read.

    Attributes:
        layout: a name that ``synthfm_env.volumes.datasets`` knows.
        path: the data set's folder, relative to the recipe's ``data.root``.
        part: of the layout, None if it has none.
        structures: names or ids to segment; empty for all.
        train: share of the patients for training and validation; the others are the test part.
        split_seed: of the split, see ``train_test_split``; a suite with the same share and seed plays the others.
    """

    layout: str
    path: str
    part: str | None = None
    structures: tuple[int | str, ...] = ()
    train: float = Field(0.8, gt=0, lt=1)
    split_seed: Seed = 0


class RealVolumes:
    """Draws a patient's volume by a seed, as ``SynthFM3D`` draws synthetic ones.

    Attributes:
        items: the images to draw from.
    """

    def __init__(self, source: DatasetSource, root: str, side: Side) -> None:
        """Find the files.

        Args:
            source: the data set.
            root: the folder of data sets.
            side: "train", or "validation" for every tenth patient that does not test, which never trains.

        Raises:
            InputError: no such layout, part or files.
        """
        self._layout = get_layout(source.layout)
        self._structures = source.structures
        found = self._layout.items(Path(root).expanduser() / source.path, source.part)
        kept, _ = train_test_split(found, source.train, source.split_seed)
        patients = sorted({item.case_id for item in kept})
        validating = set(patients[::_VALIDATES])
        self.items: list[Item] = [item for item in kept if (item.case_id in validating) == (side == "validation")]
        if not self.items:
            raise InputError(
                f"{source.path}: {len(found)} images leave none for {side}; training needs a data set of more patients"
            )

    def sample(self, seed: int) -> Volume:
        """Read the volume that a seed draws.

        Raises:
            InputError: its files are broken.
        """
        item = self.items[int(np.random.default_rng(seed).integers(len(self.items)))]
        return self._layout.load(item, self._structures)
