"""Splits a data set into training, validation and test cases by a seed."""

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from synthfm_env.arguments import is_whole
from synthfm_env.errors import InputError
from synthfm_env.printable import shown

SPLITS: Final = ("train", "validation", "test")


def split_cases(case_ids: Iterable[str], fractions: Sequence[float], seed: int) -> dict[str, list[str]]:
    """Return the cases of each split, in alphabetical order; no case is in two.

    The cases are shuffled by the seed and cut by the fractions, each cut rounded to the nearest case.

    Args:
        case_ids: of all cases; repeated ids count once.
        fractions: of training, validation and test, 0 or more each, 1 together.
        seed: of the order, 0 or more.

    Raises:
        InputError: the fractions or the seed are not as above.

    Example:
        >>> split_cases("abcdefgh", (0.5, 0.25, 0.25), seed=1)
        {'train': ['a', 'b', 'e', 'f'], 'validation': ['c', 'g'], 'test': ['d', 'h']}
    """
    if not _are_shares(fractions):
        raise InputError(
            f"fractions is {shown(fractions)}: expected three shares of 0 or more that sum to 1, "
            "of training, validation and test"
        )
    if not is_whole(seed) or seed < 0:
        raise InputError(f"split_seed is {shown(seed)}: expected an integer of 0 or more")
    cases = sorted(set(case_ids))
    order = np.random.default_rng(seed).permutation(len(cases))
    cuts = np.rint(np.cumsum(fractions)[:-1] * len(cases)).astype(int)
    parts = np.split(order, cuts)
    return {name: sorted(cases[i] for i in part) for name, part in zip(SPLITS, parts, strict=True)}


def _are_shares(fractions: Sequence[float]) -> bool:
    try:
        return len(fractions) == len(SPLITS) and min(fractions) >= 0 and abs(sum(fractions) - 1) <= 1e-6
    except TypeError:  # no sequence of numbers
        return False
