"""Splits a data set into training, validation and test cases by a seed."""

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from synthfm_env.arguments import is_whole
from synthfm_env.errors import InputError
from synthfm_env.printable import shown
from synthfm_env.volumes.case_source import CaseSource

SPLITS: Final = ("train", "validation", "test")


def split_sources(sources: Sequence[CaseSource], fractions: Sequence[float], seed: int) -> dict[str, list[str]]:
    """Return the case ids of each split, in alphabetical order; no patient is in two.

    Case ids of one patient stay together, also if they come from two tables on one folder. A patient whom a table's own
    split puts on the side "test" is a test case, whatever other tables say; one on the side "train" is a training or a
    validation case. ``split_cases`` shuffles and cuts these and the patients without a side.

    Args:
        sources: of all tables.
        fractions: of training, validation and test, 0 or more each, 1 together.
        seed: of the order, 0 or more.

    Raises:
        InputError: the fractions or the seed are not as above.

    Example:
        >>> from synthfm_env.volumes.case_source import case_sources
        >>> tables = [{"kind": "synthetic", "name": name, "shape": [8, 32, 32], "cases": 2} for name in ("a", "b")]
        >>> split_sources(case_sources(tables, "folder", None), (0.5, 0.0, 0.5), seed=0)
        {'train': ['a/0', 'b/0'], 'validation': [], 'test': ['a/1', 'b/1']}
    """
    # The first case id stands for its patient, so that the order does not depend on where a folder is.
    patients = {min(cases): cases for cases in _by_patient(sources)}
    sides: dict[str, set[str | None]] = {first: set() for first in patients}
    first_of = {case: first for first, cases in patients.items() for case in cases}
    for source in sources:
        sides[first_of[source.case_id]].add(source.side)
    free = [first for first, of in sides.items() if of == {None}]
    training = [first for first, of in sides.items() if "train" in of and "test" not in of]
    splits = split_cases(free, fractions, seed)
    train, validation, _ = fractions
    share = train / (train + validation) if train + validation else 1.0
    for name, cases in split_cases(training, (share, 1 - share, 0.0), seed).items():
        splits[name] += cases
    splits["test"] += [first for first, of in sides.items() if "test" in of]
    return {name: sorted(case for first in firsts for case in patients[first]) for name, firsts in splits.items()}


def _by_patient(sources: Iterable[CaseSource]) -> list[set[str]]:
    """Return the case ids of each patient: those of sources that share a key, directly or through others."""
    patients: dict[int, set[str]] = {}
    number_of: dict[tuple[str, str], int] = {}  # of each key and of each case id
    for source in sources:
        keys = [("case", source.case_id), *(("patient", key) for key in source.patient)]
        known = sorted({number_of[key] for key in keys if key in number_of})
        number = known[0] if known else len(number_of)
        patients.setdefault(number, set()).add(source.case_id)
        for other in known[1:]:
            patients[number] |= patients.pop(other)
            number_of.update({key: number for key, value in number_of.items() if value == other})
        number_of.update(dict.fromkeys(keys, number))
    return list(patients.values())


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
