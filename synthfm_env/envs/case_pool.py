"""Chooses and decodes the cases that the environment of a data set draws from."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from synthfm_env.arguments import check_name
from synthfm_env.envs.synthetic_env import MIN_VOXELS
from synthfm_env.errors import InputError
from synthfm_env.printable import shown
from synthfm_env.volumes.case_cache import CachedCase, CacheError, CaseCache
from synthfm_env.volumes.case_source import CaseSource, case_sources
from synthfm_env.volumes.case_splits import SPLITS, split_sources
from synthfm_env.volumes.case_tables import are_structures
from synthfm_env.volumes.datasets import get_layout, wanted_ids
from synthfm_env.volumes.fixed_grid import FixedGrid

_log = logging.getLogger(__name__)

_SHOWN = 5  # names in a message


class CasePool:
    """The cases of one split, decoded when they are first drawn. The environments of a vector share one pool.

    ``DatasetEnv`` documents the arguments.

    Args:
        data: a folder, a TOML file or its tables.
        layout: of the folder.
        part: of the layout.
        split: the split to draw from, or ``"all"``.
        fractions: of the splits.
        split_seed: seed of the splits.
        structures: label ids or names to draw from; empty for all.
        grid: shape and spacing that all cases are resampled to.
        cache: folder of decoded cases, or None for the user's cache.

    Attributes:
        all_sources: the images of all splits.
        splits: the case ids of each split.
        sources: the images of the chosen split.
        passed_over: the images that were drawn and left out so far: image id to reason.

    Raises:
        InputError: a wrong argument, or a split without cases.
    """

    def __init__(
        self,
        data: str | Path | Sequence[Mapping[str, Any]],
        layout: str,
        part: str | None,
        split: str,
        fractions: Sequence[float],
        split_seed: int,
        structures: Sequence[int | str],
        grid: FixedGrid,
        cache: str | Path | None,
    ) -> None:
        check_name("split", split, (*SPLITS, "all"))
        if not are_structures(structures):
            raise InputError(f"structures is {shown(structures)}: expected a list of label ids or names")
        if not isinstance(cache, str | Path | None):
            raise InputError(f"cache is {shown(cache)}: expected a folder, or None")
        self.all_sources = case_sources(data, layout, part)
        self.splits = split_sources(self.all_sources, fractions, split_seed)
        chosen = set(self.splits[split]) if split != "all" else {source.case_id for source in self.all_sources}
        self.sources = [source for source in self.all_sources if source.case_id in chosen]
        if not self.sources:
            count = sum(len(cases) for cases in self.splits.values())
            raise InputError(
                f"split={split!r} holds no case: fractions {tuple(fractions)} of {count} cases; "
                f"give other fractions, more cases, or split='all'{_of_own_splits(self.all_sources)}"
            )
        self.structures = tuple(structures)
        if isinstance(data, str | Path) and not str(data).endswith(".toml") and get_layout(layout).structures:
            wanted_ids(
                self.structures, get_layout(layout).structures
            )  # so that an unknown name is refused now, not at the first reset
        self.grid = grid
        self.cache = CaseCache(cache, grid)
        self.passed_over: dict[str, str] = {}

    def open(self, source: CaseSource) -> tuple[CachedCase, list[int]] | None:
        """Return a case and the label ids that may be drawn.

        If the case cannot be read or has no such label id, the result is None, with a warning the first time.

        Raises:
            CacheError: the folder of the cache cannot be written.
        """
        if source.image_id in self.passed_over:
            return None
        try:
            case = self.cache.open(source)
        except CacheError:  # no fault of the case: the next one would fail as well
            raise
        except InputError as error:
            self._pass_over(source, str(error))
            return None
        wanted = [str(key) for key in self.structures or source.structures]
        present = [key for key, name in case.structures.items() if not wanted or {name, str(key)} & set(wanted)]
        large = [key for key in present if case.voxels(key) >= MIN_VOXELS]
        if large:
            return case, large
        names = listed(wanted) or "structure"
        if present:
            reason = f"no {names} of {MIN_VOXELS} voxels or more on the grid after cropping"
        else:
            reason = f"no {names}; it holds {listed(case.structures.values()) or 'no structure'}"
        self._pass_over(source, f"{source.image_id}: {reason}")
        return None

    def _pass_over(self, source: CaseSource, reason: str) -> None:
        self.passed_over[source.image_id] = reason
        _log.warning("passed over: %s", reason)

    def names(self) -> list[str]:
        """Return the names of the structures of all splits, in alphabetical order; reads every case."""
        names: set[str] = set()
        for source in self.all_sources:
            opened = self.open(source)
            if opened is not None:
                case, ids = opened
                names |= {case.structures[key] for key in ids}
        return sorted(names)


def listed(names: Iterable[str]) -> str:
    """Return names separated by commas, the number of the others after the first ones."""
    first = list(names)
    more = len(first) - _SHOWN
    return ", ".join(first[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _of_own_splits(sources: Sequence[CaseSource]) -> str:
    """Return a clause on the splits of tables; empty if no table has one."""
    sides = sorted({source.side for source in sources if source.side})
    names = {"train": "side 'train' gives cases to 'train' and 'validation'", "test": "side 'test' only to 'test'"}
    return "".join(f"; a table's split with {names[side]}" for side in sides)
