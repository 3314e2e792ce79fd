"""Splits a data set's patients into training and test patients by a seed."""

from collections.abc import Sequence

import numpy as np

from synthfm_env.volumes.datasets.base import Item


def train_test_split(items: Sequence[Item], train: float, seed: int) -> tuple[list[Item], list[Item]]:
    """Return the images of training patients and those of test patients, the same on every machine.

    Patients in the order of their names are shuffled by ``numpy.random.default_rng(seed)``. The first ``train`` share
    of them, rounded, is for training.

    Args:
        items: images; a patient may have several.
        train: share of the patients for training.
        seed: of the shuffle.

    Example:
        >>> from pathlib import Path
        >>> items = [Item(f"case {i}", f"case {i}", Path(f"{i}.nii"), Path(f"{i}-label.nii")) for i in range(10)]
        >>> [len(side) for side in train_test_split(items, 0.8, seed=0)]
        [8, 2]
    """
    patients = sorted({item.case_id for item in items})
    order = np.random.default_rng(seed).permutation(len(patients))
    training = {patients[i] for i in order[: round(train * len(patients))]}
    return [item for item in items if item.case_id in training], [
        item for item in items if item.case_id not in training
    ]
