"""Computes the loss of a batch of clips, in the recipe's precision."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from synthfm_env.segmenters.cpu_arithmetic import bfloat16_autocast
from synthfm_env.segmenters.sam2.tracking.frames import normalise
from synthfm_train.sam2.clip_dataset import Clips, masks_of
from synthfm_train.sam2.contrastive import dense_loss
from synthfm_train.sam2.distillation import distillation_loss
from synthfm_train.sam2.heads import TrainingHeads
from synthfm_train.sam2.recipe import Phase, TrainingRecipe
from synthfm_train.sam2.relative_position import relative_position_loss
from synthfm_train.sam2.rollout import Rollout, encode_slices


class ClipBatchLoss(NamedTuple):
    """Loss of one batch.

    Attributes:
        loss: the scalar to minimise.
        values: detached scalars for the log.
        faulty: clips whose loss is not finite; all clips of the batch if none can be singled out.
    """

    loss: Tensor
    values: dict[str, Tensor]
    faulty: list[int]


def _one_loss(loss: Tensor, clips: int) -> ClipBatchLoss:
    """Return a loss that no clip can be singled out of."""
    return ClipBatchLoss(loss, {"loss": loss.detach()}, [] if loss.isfinite() else list(range(clips)))


class ClipLoss:
    """The losses of a model and of the heads of its auxiliary tasks."""

    def __init__(
        self, model: SAM2Base, heads: TrainingHeads, recipe: TrainingRecipe, teacher: SAM2Base | None = None
    ) -> None:
        """Keep the model and its heads, and the teacher of a distill phase."""
        self.model, self.heads, self.recipe, self._teacher = model, heads, recipe, teacher
        self._device = next(model.parameters()).device

    def loss(self, phase: Phase, clips: Clips, generator: torch.Generator) -> ClipBatchLoss:
        """Return the losses of one step.

        Args:
            phase: the kind of task.
            clips: a batch of V volumes, on the CPU.
            generator: source of all draws, on the CPU.
        """
        slices = clips.frames.shape[2]
        if phase.kind == "clicks" and slices > 1 and float(torch.rand(1, generator=generator)) < phase.images:
            slices = 1
        frames = normalise(clips.frames[:, :, :slices].flatten(0, 1)[:, :, None].to(self._device))
        labels = clips.labels[:, :, :slices].flatten(0, 1).to(self._device)
        with self._arithmetic():
            if phase.kind == "dense":
                return self._dense(frames, labels.flatten(0, 1), generator)
            if phase.kind == "distill":
                return self._distill(frames)
            masks = masks_of(labels, clips.targets.flatten(0, 1).to(self._device))
            return self._clicks(phase, frames, masks, labels.flatten(0, 1), generator)

    def _dense(self, frames: Tensor, labels: Tensor, generator: torch.Generator) -> ClipBatchLoss:
        maps, _ = encode_slices(self.model, frames)
        return _one_loss(dense_loss(maps, self.heads.dense, labels, generator), len(frames))

    def _distill(self, frames: Tensor) -> ClipBatchLoss:
        if self._teacher is None:
            raise TypeError("a distill phase needs a teacher")
        return _one_loss(distillation_loss(self.model, self._teacher, frames), len(frames))

    def _clicks(
        self, phase: Phase, frames: Tensor, masks: Tensor, labels: Tensor, generator: torch.Generator
    ) -> ClipBatchLoss:
        """Return the loss of prompted masks, and of auxiliary tasks beside it."""
        rollout = Rollout(self.model, frames, masks, generator, self.recipe.loss, phase.balance)
        scores = rollout.play(phase)
        loss = rollout.loss()
        values = {"loss": loss.detach(), **scores}
        for name, weight, auxiliary in self._auxiliary(phase, rollout, labels, generator):
            values[name] = auxiliary.detach()
            loss = loss + weight * auxiliary
        faulty = [] if loss.isfinite() else rollout.faulty() or list(range(len(frames)))
        return ClipBatchLoss(loss, values, faulty)

    def _auxiliary(
        self, phase: Phase, rollout: Rollout, labels: Tensor, generator: torch.Generator
    ) -> Iterator[tuple[str, float, Tensor]]:
        """Yield name, weight and value of each auxiliary loss; a single slice has the dense one only."""
        heads = self.heads
        if self.recipe.trains == "all" and phase.dense:
            maps = [level.flatten(0, 1) for level in rollout.maps]
            yield "dense", phase.dense, dense_loss(maps, heads.dense, labels, generator)
        if heads.relative_position is not None and phase.relative_position and rollout.length > 1:
            offsets = heads.relative_position(rollout.maps[-1])
            yield "relative_position", phase.relative_position, relative_position_loss(offsets)
        if heads.boundary is not None and phase.boundary and rollout.length > 1:
            yield "boundary", phase.boundary, rollout.boundary_loss(heads.boundary)

    @contextmanager
    def _arithmetic(self) -> Iterator[None]:
        """Compute in the recipe's precision inside the block."""
        if self.recipe.precision == "float32":
            yield
            return
        with bfloat16_autocast(self._device):
            if self._device.type == "cpu":
                # Plain attention is faster there than torch's fused one.
                with sdpa_kernel(SDPBackend.MATH):
                    yield
            else:
                yield
