"""Implements the environment on one volume of the user."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from synthfm_env.envs.episode import SegmentationTask
from synthfm_env.envs.prompt_env import EpisodeOptions, PromptEnv
from synthfm_env.errors import InputError
from synthfm_env.volumes import Volume, load_volume
from synthfm_env.volumes.volume_description import open_described


class VolumeEnv(PromptEnv):
    """Segment a structure of a given volume on its native grid, click by click.

    ## Description

    The image and its truth come from NIfTI files and are neither cropped nor resampled, but turned to RAS+: z grows
    to the head, y to the front, x to the right of the body. A click is a voxel of the turned image; these are
    the file's own indices only if the file is stored in RAS+. (`synthfm segment` takes the file's own.) The image is
    encoded once and serves all episodes.

    ```python
    env = gym.make("synthfm_env:SynthFM/Volume-v0", image="ct.nii.gz", label="organs.nii.gz", structure=3)
    ```

    ## Starting State

    The structure is the argument `structure`. If that is `None`, each episode draws one from the label.

    ## Arguments

    | Argument    | Default  | Meaning                                                                    |
    |-------------|----------|----------------------------------------------------------------------------|
    | `image`     | required | path of a NIfTI file, or a `Volume`, which then carries label and modality; |
    |             |          | or a dict that describes one, as `run.json` does: see `open_described`     |
    | `label`     | `None`   | path of the label map on the same grid; needed with a path                 |
    | `structure` | `None`   | label id or name                                                           |
    | `modality`  | `None`   | `CT`, `MR`, `US` or `other`, picks the scaling to 8 bits; `None` guesses   |

    ## Version History

    - v0: first version.

    Example:
        >>> import gymnasium as gym
        >>> import synthfm_env
        >>> volume = synthfm_env.SynthFM3D((8, 32, 32), "clear").sample(seed=7)
        >>> env = gym.make("SynthFM/Volume-v0", image=volume, segmenter="geodesic", structure=1)
        >>> observation, info = env.reset(seed=0)
        >>> info["dice"]
        0.0
    """

    def __init__(
        self,
        *,
        image: str | Path | Volume | Mapping[str, Any],
        label: str | Path | None = None,
        structure: int | str | None = None,
        modality: str | None = None,
        **episode: Unpack[EpisodeOptions],
    ) -> None:
        if isinstance(image, Mapping):
            image = open_described(image)
        if not isinstance(image, Volume):
            image = load_volume(image, label, modality=modality)
        elif label is not None or modality is not None:
            raise InputError("image is a Volume: give label and modality in it, not as arguments of their own")
        if image.label is None:
            raise InputError(f"{image.case_id} has no label, so no click can be judged: give label=PATH")
        if structure is not None:
            image.truth(structure)  # a wrong name must show now, not at the first reset
        self.volume = image
        self.structure = structure
        present = [int(i) for i in np.unique(image.label) if i]
        self._label_ids = present if structure is None else []
        self._goal_names = [SegmentationTask(image, i).structure_name for i in present]
        depth, height, width = image.image.shape
        super().__init__((depth, height, width), **episode)

    def goal_names(self) -> list[str]:
        """Return the names of the volume's structures, in the order of their label ids."""
        return self._goal_names

    def draw_task(self, structure: int | str | None) -> SegmentationTask:
        """Return the volume with the structure that is asked for, was given, or is drawn."""
        chosen = self.structure if structure is None else structure
        return SegmentationTask(self.volume, int(self.np_random.choice(self._label_ids)) if chosen is None else chosen)
