"""What one step asks of the model: the losses of a batch of clips, in the recipe's precision."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from synthfm_env.segmenters.sam2.tracking.frames import normalise
from synthfm_train.sam2.clip_dataset import Clips, masks_of
from synthfm_train.sam2.contrastive import DenseHead, dense_loss
from synthfm_train.sam2.freezing import encode_slices
from synthfm_train.sam2.recipe import Phase, Recipe
from synthfm_train.sam2.rollout import Rollout


class Outcome(NamedTuple):
    """Loss of one batch.

    Attributes:
        loss: to be reduced, a scalar.
        values: what to log, detached scalars.
        faulty: clips of the batch with a loss that is not finite, all where none can be singled out.
    """

    loss: Tensor
    values: dict[str, Tensor]
    faulty: list[int]


class Task:
    """The losses of a model and of the head of its dense task."""

    def __init__(self, model: SAM2Base, head: DenseHead, recipe: Recipe) -> None:
        self.model, self.head, self.recipe = model, head, recipe
        self._device = next(model.parameters()).device

    def play(self, phase: Phase, clips: Clips, generator: torch.Generator) -> Outcome:
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
            masks = masks_of(labels, clips.targets.flatten(0, 1).to(self._device))
            return self._clicks(phase, frames, masks, labels.flatten(0, 1), generator)

    def _dense(self, frames: Tensor, labels: Tensor, generator: torch.Generator) -> Outcome:
        maps, _ = encode_slices(self.model, frames.flatten(0, 1))
        loss = dense_loss(maps, self.head, labels, generator)
        return Outcome(loss, {"loss": loss.detach()}, [] if loss.isfinite() else list(range(len(frames))))

    def _clicks(
        self, phase: Phase, frames: Tensor, masks: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Outcome:
        rollout = Rollout(self.model, frames, masks, generator, self.recipe.loss, phase.balance)
        scores = rollout.play(phase)
        loss = clicks = rollout.loss()
        values = {"loss": clicks.detach(), **scores}
        if self.recipe.trains == "all" and phase.dense:
            dense = dense_loss([level.flatten(0, 1) for level in rollout.maps], self.head, labels, generator)
            values["dense"] = dense.detach()
            loss = clicks + phase.dense * dense
        faulty = [] if loss.isfinite() else rollout.faulty() or list(range(len(frames)))
        return Outcome(loss, values, faulty)

    @contextmanager
    def _arithmetic(self) -> Iterator[None]:
        if self.recipe.precision == "float32":
            yield
            return
        with torch.autocast(self._device.type, torch.bfloat16):
            if self._device.type == "cpu":
                # Plain attention is faster there than torch's fused one.
                with sdpa_kernel(SDPBackend.MATH):
                    yield
            else:
                yield
