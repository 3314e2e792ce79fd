"""A fixed synthetic validation set, played with fixed clicks."""

import torch
from sam2.modeling.sam2_base import SAM2Base
from torch.utils.data import default_collate

from synthfm_env.segmenters.sam2.frames import normalise
from synthfm_train.data import ClipDataset
from synthfm_train.recipe import Phase, Recipe
from synthfm_train.rollout import Rollout

_FIRST_SEED = 900_000_000_000  # far from every seed trained on
_TASK = Phase(steps=1, volumes=8, cuts=1, slices=4, objects=2, clicks=5)


class Validation:
    """Dice of a model on clips it never sees in training: one click, tracking from it, and five clicks."""

    def __init__(self, recipe: Recipe, size: int) -> None:
        dataset = ClipDataset(recipe.data, _TASK, size, _FIRST_SEED, recipe.validation_volumes)
        self._clips = [dataset[i] for i in range(len(dataset))]

    @torch.no_grad()
    def run(self, model: SAM2Base) -> dict[str, float]:
        """Return mean Dice: ``val_dice1`` and ``val_dice5`` on the clicked slice, ``val_tracked``, and their mean."""
        rows = []
        for start in range(0, len(self._clips), _TASK.volumes):
            batch = default_collate(self._clips[start : start + _TASK.volumes])
            generator = torch.Generator().manual_seed(start)
            rollout = Rollout(model, normalise(batch.frames[:, 0, :, None]), batch.masks[:, 0], generator)
            first = rollout.click(0)
            rollout.remember(0, clicked=True)
            tracked = [rollout.track(t) for t in range(1, _TASK.slices)]
            last = first
            for _ in range(_TASK.clicks - 1):
                last = rollout.click(0)
                rollout.remember(0, clicked=True)
            rows.append((first, last, sum(tracked) / len(tracked)))
        dice1, dice5, track = (sum(column) / len(rows) for column in zip(*rows, strict=True))
        return {
            "val_dice1": dice1,
            "val_dice5": dice5,
            "val_tracked": track,
            "score": (dice1 + dice5 + track) / 3,
        }
