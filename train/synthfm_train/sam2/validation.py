"""Validates on a fixed set of clips with fixed clicks."""

from pathlib import Path

import torch
from sam2.modeling.sam2_base import SAM2Base
from torch.utils.data import default_collate

from synthfm_env.segmenters.sam2.tracking.frames import normalise
from synthfm_train.sam2.clip_dataset import ClipDataset, Clips, masks_of
from synthfm_train.sam2.clip_pictures import ClipPicture, draw_rows
from synthfm_train.sam2.recipe import Data, Phase
from synthfm_train.sam2.rollout import Rollout

_FIRST_SEED = 900_000_000_000  # far from every seed trained on
_VOLUMES, _SLICES, _CLICKS = 8, 4, 5  # of a batch, of a clip, on its first slice
_DRAWN = 4  # clips in a picture


class Validation:
    """Dice of a model on clips it never sees in training: one click, tracking from it, and five clicks."""

    def __init__(self, data: Data, volumes: int, size: int, device: torch.device) -> None:
        phase = Phase(
            steps=1, volumes=_VOLUMES, cuts=1, slices=min(_SLICES, *(shape[0] for shape in data.shape)), objects=2
        )
        dataset = ClipDataset(data, phase, size, _FIRST_SEED, volumes, "validation")
        self._clips = [dataset[i] for i in range(len(dataset))]
        self._device = device

    @torch.no_grad()
    def run(self, model: SAM2Base, picture: Path) -> dict[str, float]:
        """Play all clips and draw the first few.

        Args:
            model: in evaluation mode.
            picture: where to, a ``.png``; it appears complete or not at all.

        Returns:
            Mean Dice: ``val_dice1`` and ``val_dice5`` on the clicked slice, ``val_tracked`` where a clip has more
            slices than that, and ``score``, their mean.
        """
        scores: list[dict[str, float]] = []
        drawn: list[ClipPicture] = []
        for start in range(0, len(self._clips), _VOLUMES):
            batch = default_collate(self._clips[start : start + _VOLUMES])
            played, rows = self._play(model, batch, torch.Generator().manual_seed(start))
            scores.append(played)
            drawn += rows[: _DRAWN - len(drawn)]
        draw_rows(drawn, picture)
        mean = {name: sum(row[name] for row in scores) / len(scores) for name in scores[0]}
        return {**mean, "score": sum(mean.values()) / len(mean)}

    def _play(
        self, model: SAM2Base, batch: Clips, generator: torch.Generator
    ) -> tuple[dict[str, float], list[ClipPicture]]:
        """Return scores and pictures of a batch: one click, tracking from it, further clicks."""
        # One click on the first slice, then tracking
        frames = normalise(batch.frames[:, 0, :, None].to(self._device))
        truth = masks_of(batch.labels[:, 0], batch.targets[:, 0])
        rollout = Rollout(model, frames, truth.to(self._device), generator)
        scores = {"val_dice1": rollout.click(0), "val_dice5": torch.zeros(())}
        rollout.remember(0, clicked=True)
        after_one = rollout.mask(0)
        others = range(1, rollout.length)
        if others:
            scores["val_tracked"] = torch.stack([rollout.track(t) for t in others]).mean()
        tracked = [rollout.mask(t) for t in others]
        # Further clicks on the first slice
        for _ in range(_CLICKS - 1):
            scores["val_dice5"] = rollout.click(0)
            rollout.remember(0, clicked=True)
        # The first object of each clip as a picture
        masks = torch.stack([after_one, *tracked, rollout.mask(0)], 1)
        points, labels = rollout.points[0]
        objects = truth.shape[1]
        rows = [
            ClipPicture(
                frames=batch.frames[clip, 0].numpy(),
                truth=truth[clip, 0].numpy(),
                masks=masks[clip * objects].cpu().numpy(),
                points=points[clip * objects].cpu().numpy(),
                labels=labels[clip * objects].cpu().numpy(),
            )
            for clip in range(len(batch.frames))
        ]
        return {name: float(value) for name, value in scores.items()}, rows
