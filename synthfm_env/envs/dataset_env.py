"""Implements the environment that draws its cases from a data set."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

from synthfm_env.envs.case_pool import CasePool, listed
from synthfm_env.envs.episode import Episode, SegmentationTask
from synthfm_env.envs.prompt_env import EpisodeOptions, PromptEnv
from synthfm_env.errors import InputError
from synthfm_env.printable import shown
from synthfm_env.volumes import Volume
from synthfm_env.volumes.case_cache import CachedCase
from synthfm_env.volumes.fixed_grid import FixedGrid, NativeTruth

_MOST_REASONS = 3  # in a message


class DatasetEnv(PromptEnv):
    """Segment structures of the cases of a data set on one fixed grid, click by click.

    ## Description

    Each episode draws a case of a split and one of its structures. Cases are resampled to a stated spacing and
    cropped to a stated shape about the middle of the image, without use of the label; `info["dice_native"]` is Dice on
    the image's own grid, where what was cropped counts as missed. A case is decoded once, kept in a cache on disk and
    memory-mapped from there, so that later episodes begin in milliseconds.

    ```python
    env = gym.make("synthfm_env:SynthFM/Dataset-v0", data="nnUNet_raw/Dataset001_Liver", segmenter="geodesic")
    ```

    ## Starting State

    A case of the split, drawn from the seed, and one of its structures with at least 50 voxels on the grid. A case that
    cannot be read, or has no such structure, is passed over with a warning that names it;
    `env.unwrapped.pool.passed_over` holds all of them with the reasons. `env.unwrapped.pool.splits` are the case ids of
    each split; they follow from the cases, `fractions`, `split_seed` and the tables' own `split` alone. A patient whom
    a table puts on its side "test" is in the split "test" alone, one of its side "train" in "train" or "validation".

    ## Information

    As `PromptEnv`, and `split`, and `dice_native`: Dice on the native grid.

    ## Arguments

    | Argument     | Default             | Meaning                                                          |
    |--------------|---------------------|------------------------------------------------------------------|
    | `data`       | required            | a folder, a TOML file with a suite's `[[data]]`, or such tables  |
    | `layout`     | `"folder"`          | layout of the folder; `folder` is nnU-Net's; see `list_layouts`  |
    | `part`       | `None`              | part of the layout, if it has parts                              |
    | `split`      | `"train"`           | `"train"`, `"validation"`, `"test"` or `"all"`                   |
    | `fractions`  | `(0.7, 0.15, 0.15)` | shares of the three splits, counted in cases (patients)          |
    | `split_seed` | `0`                 | seed of the splits                                               |
    | `structures` | `()`                | label ids or names to draw from; empty for all                   |
    | `spacing`    | `(3.0, 3.0, 3.0)`   | voxel size (z, y, x) of the grid in mm                           |
    | `shape`      | `(64, 128, 128)`    | grid (D, H, W)                                                   |
    | `cache`      | `None`              | folder of decoded cases; `None` for `~/.cache/synthfm_env/cases` |

    ## Version History

    - v0: first version.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import gymnasium as gym
        >>> import synthfm_env
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     images, labels = Path(folder, "images"), Path(folder, "labels")
        ...     images.mkdir()
        ...     labels.mkdir()
        ...     volume = synthfm_env.SynthFM3D((8, 32, 32), "clear").sample(seed=7)
        ...     synthfm_env.save_volume(volume, images / "a.nii.gz", labels / "a.nii.gz")
        ...     grid = {"spacing": volume.spacing, "shape": (8, 32, 32), "cache": Path(folder, "cache")}
        ...     env = gym.make("SynthFM/Dataset-v0", data=folder, split="all", segmenter="geodesic", **grid)
        ...     env.reset(seed=0)[1]["case_id"]
        'a'
    """

    def __init__(
        self,
        *,
        data: str | Path | Sequence[Mapping[str, Any]],
        layout: str = "folder",
        part: str | None = None,
        split: str = "train",
        fractions: Sequence[float] = (0.7, 0.15, 0.15),
        split_seed: int = 0,
        structures: Sequence[int | str] = (),
        spacing: Sequence[float] = (3.0, 3.0, 3.0),
        shape: Sequence[int] = (64, 128, 128),
        cache: str | Path | None = None,
        pool: CasePool | None = None,
        **episode: Unpack[EpisodeOptions],
    ) -> None:
        self.pool = pool or CasePool(
            data, layout, part, split, fractions, split_seed, structures, FixedGrid.of(spacing, shape), cache
        )
        self.split = split
        self._drawn: tuple[CachedCase, Volume] | None = None
        self._native: NativeTruth | None = None
        super().__init__(self.pool.grid.shape, **episode)

    def goal_names(self) -> list[str]:
        """Return the names of the structures of all splits, in alphabetical order; the first call reads every case."""
        return self.pool.names()

    def draw_task(self, structure: int | str | None) -> SegmentationTask:
        """Return a case of the split with one of its structures, or with the structure that is asked for."""
        sources = self.pool.sources
        first = int(self.np_random.integers(len(sources)))
        order = [first]
        for number in range(len(sources)):
            if number == 1:  # the first case was passed over: try each of the others once, in a random order
                order += [int(i) for i in self.np_random.permutation(len(sources)) if i != first]
            opened = self.pool.open(sources[order[number]])
            if opened is None:
                continue
            case, ids = opened
            key = int(self.np_random.choice(ids)) if structure is None else _id_of(case, structure)
            volume = self._volume(case)
            self._native = case.native_truth(key, self.pool.grid)
            return SegmentationTask(volume, key)
        reasons = list(self.pool.passed_over.values())
        examples = "; ".join(reasons[:_MOST_REASONS]) + ("; ..." if len(reasons) > _MOST_REASONS else "")
        raise InputError(f"split={self.split!r}: none of its {len(sources)} images can be played: {examples}")

    def more_info(self, episode: Episode) -> dict[str, Any]:
        """Return Dice on the native grid, and the split."""
        assert self._native is not None
        return {"dice_native": self._native.dice(episode.mask), "split": self.split}

    def _volume(self, case: CachedCase) -> Volume:
        """Return a case's volume; the last one is kept, so that the segmenter need not encode it again."""
        if self._drawn is None or self._drawn[0].folder != case.folder:
            self._drawn = case, case.volume(self.pool.grid)
        return self._drawn[1]


def _id_of(case: CachedCase, structure: int | str) -> int:
    """Return the label id of a structure that is on the grid.

    Raises:
        InputError: there is no such structure, or cropping left none of it.
    """
    for key, name in case.structures.items():
        if str(structure) in (name, str(key)) and case.voxels(key):
            return key
    held = listed(name for key, name in case.structures.items() if case.voxels(key)) or "nothing"
    raise InputError(f"{case.about['image_id']}: structure {shown(structure)} is not on the grid; it holds {held}")
