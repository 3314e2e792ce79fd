"""Implements the environment on volumes from the SynthFM-3D generator."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from synthfm_env.envs.draw_ahead import DrawAhead
from synthfm_env.envs.episode import Observation, SegmentationTask
from synthfm_env.envs.prompt_env import EpisodeOptions, PromptEnv
from synthfm_env.errors import InputError
from synthfm_env.synthesis import SynthFM3D
from synthfm_env.volumes import Volume

MIN_VOXELS = 50
"""Structures with fewer voxels are not drawn: a click more or less decides their Dice."""

MAX_CASES = 20  # tried before a recipe counts as one that gives no structure

ANATOMY = (
    "bezier organ", "bone", "bowel", "bowel lumen", "cell", "chamber", "cord", "disc", "lesion", "lung", "muscle ring",
    "organ", "organ lumen", "organ wall", "paired organ", "region", "rib", "shelled organ", "tube", "tube lumen",
    "vertebra", "vessel tree",
)  # fmt: skip
"""Anatomies that the generator draws; its structures are named after them, with a number."""


class SyntheticEnv(PromptEnv):
    """Segment a structure of a synthetic volume, a new one in every episode, click by click.

    ## Description

    Each episode draws a case from the SynthFM-3D generator: shapes, adjacency, contrast, boundaries and noise
    of medical images from analysis alone, with no real image or label in it. Nothing is downloaded, and fresh
    cases never run out. A 2D image is a volume with one slice.

    ```python
    env = gym.make("synthfm_env:SynthFM/Synthetic3D-v0", segmenter="synthfm3d-nano", max_clicks=5)
    ```

    ## Starting State

    A fresh case, and one of its structures with at least 50 voxels, both drawn from the seed. `goal="structure"`
    numbers the structure's anatomy: organ, lesion, vertebra and so on, see `env.unwrapped.goal_names()`.

    ## Arguments

    | Argument | Default          | Meaning                                                         |
    |----------|------------------|-----------------------------------------------------------------|
    | `shape`  | `(64, 128, 128)` | grid (D, H, W), the same in all episodes                        |
    | `recipe` | `"any"`          | what the generator draws: a name from `list_recipes`, or a dict |

    ## Version History

    - v0: first version.

    Example:
        >>> import gymnasium as gym
        >>> import synthfm_env
        >>> small = {"shape": [8, 32, 32], "recipe": "clear", "segmenter": "geodesic"}
        >>> env = gym.make("SynthFM/Synthetic3D-v0", max_clicks=2, **small)
        >>> observation, info = env.reset(seed=0)
        >>> observation, reward, terminated, truncated, info = env.step([4, 16, 16, 1])
        >>> observation["mask"].shape, info["clicks_used"], terminated
        ((8, 32, 32), 1, False)
    """

    def __init__(
        self,
        *,
        shape: Sequence[int] = (64, 128, 128),
        recipe: str | dict[str, Any] = "any",
        **episode: Unpack[EpisodeOptions],
    ) -> None:
        self.recipe = recipe
        self.generator = SynthFM3D(shape=shape, recipe=recipe)
        depth, height, width = self.generator.shape
        self.draw_ahead = DrawAhead(self.generator, 0)
        self._announced: int | None = None
        self._drawn: tuple[int, Volume] | None = None
        super().__init__((depth, height, width), **episode)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode, and announce the seed of the next case, so that another process can draw it meanwhile."""
        started = super().reset(seed=seed, options=options)
        if self._announced is not None:
            self.draw_ahead.forget(self._announced)  # not taken if a seed was given
        self._announced = int(deepcopy(self.np_random).integers(2**31))
        self.draw_ahead.announce(self._announced)
        return started

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "draw_ahead": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.draw_ahead = DrawAhead(self.generator, 0)

    def draw_task(self, structure: int | str | None) -> SegmentationTask:
        """Return a fresh case with one of its structures, or with the structure that is asked for."""
        for _ in range(MAX_CASES):
            volume = self._case(int(self.np_random.integers(2**31)))
            if structure is not None:
                return SegmentationTask(volume, structure)
            targets = fair_targets(volume.label)
            if targets.size:
                return SegmentationTask(volume, int(self.np_random.choice(targets)))
        raise InputError(
            f"recipe {self.recipe!r} gave no structure of {MIN_VOXELS} voxels in {MAX_CASES} cases on the "
            f"grid {self.generator.shape} (z, y, x): take a larger shape or another recipe"
        )

    def goal_names(self) -> list[str]:
        """Return ``ANATOMY``."""
        return list(ANATOMY)

    def goal_of(self, task: SegmentationTask) -> str:
        """Return a structure's anatomy, its name without the number."""
        return task.structure_name.rpartition(" ")[0]

    def _case(self, seed: int) -> Volume:
        """Return the volume of a seed; the last one is kept, so that the segmenter need not encode it again."""
        if self._drawn is None or self._drawn[0] != seed:
            self._drawn = (seed, self.draw_ahead.take(seed))
        return self._drawn[1]


def fair_targets(label: NDArray[np.integer] | None) -> NDArray[np.intp]:
    """Return the label ids with at least ``MIN_VOXELS`` voxels, ascending, without 0.

    Args:
        label: int (D, H, W), or None for no label.
    """
    if label is None:
        return np.empty(0, dtype=np.intp)
    sizes = np.bincount(label.ravel())
    sizes[0] = 0
    return np.flatnonzero(sizes >= MIN_VOXELS)
