"""Trains SAM 2 on clips of synthetic volumes under simulated prompts."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from sam2.modeling.sam2_base import SAM2Base
from torch import nn

from synthfm_env.errors import InputError
from synthfm_env.segmenters.sam2 import set_image_size
from synthfm_env.segmenters.sam2.slice_context import context_of
from synthfm_train.checkpoint import save_weights
from synthfm_train.distributed import Processes
from synthfm_train.loop import BatchLoss, LoopSettings, Objective, TrainingLoop
from synthfm_train.run_directory import RunFolder
from synthfm_train.sam2.build import architecture_of, start_model, teacher_of
from synthfm_train.sam2.clip_dataset import ClipDataset, Clips, load_clips
from synthfm_train.sam2.clip_loss import ClipLoss
from synthfm_train.sam2.lora import merged_state
from synthfm_train.sam2.recipe import Phase, TrainingRecipe
from synthfm_train.sam2.validation import Validation

# Distances between the seeds of recipes, of phases, and, for prompts alone, of processes.
_RECIPE_STRIDE = 1_000_000_000
_PHASE_STRIDE = 10_000_000
_RANK_STRIDE = 10**15


class TrainingObjective(Objective):
    """Trains SAM 2 with clicks, boxes and masks on clips, and with auxiliary tasks.

    The random numbers of a step follow from the recipe's seed, the phase and the step's number.

    Attributes:
        recipe: settings of the training.
        model: the SAM 2.
        heads: of the auxiliary tasks; they train with the model.
    """

    fresh_optimizers = True

    def __init__(self, recipe: TrainingRecipe, processes: Processes, workers: int) -> None:
        """Build the model.

        Raises:
            InputError: files of a data set are missing, the weights cannot be read, or the processes cannot share a
                step's volumes evenly.
        """
        for index, phase in enumerate(recipe.phases):
            if phase.volumes % processes.count:
                raise InputError(
                    f"phases.{index}.volumes is {phase.volumes}, which {processes.count} processes cannot share "
                    f"evenly; set it to a multiple of {processes.count}"
                )
        if recipe.data.datasets:
            recipe.data.generators()  # raises if files are missing, before weights are downloaded
        self.recipe, self.phases, self._processes, self._workers = recipe, recipe.phases, processes, workers
        self._architecture = architecture_of(recipe)
        model, heads = start_model(recipe)
        self.model: SAM2Base = model.to(processes.device)
        self.heads = heads.to(processes.device)
        self._own_size = int(self.model.image_size)
        teacher = teacher_of(recipe)
        self._teacher = None if teacher is None else teacher.to(processes.device)
        self._losses = ClipLoss(self.model, self.heads, recipe, self._teacher)
        self._batches: Iterator[Clips] = iter(())
        self._validation: Validation | None = None
        self._last: tuple[Phase, Clips, list[int]] | None = None

    def optimizers(self, phase: int) -> list[torch.optim.Optimizer]:
        """Return AdamW, without weight decay of biases and norms."""
        lr = self.recipe.phases[min(phase, len(self.recipe.phases) - 1)].lr
        parameters = [p for p in [*self.model.parameters(), *self.heads.parameters()] if p.requires_grad]
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": self.recipe.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        return [torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98))]

    def begin(self, phase: int, step: int, average: nn.Module) -> None:
        """Set the image size of a phase, open its clips from a step on, and draw its validation set."""
        plan = self.recipe.phases[phase]
        size = plan.image_size or self._own_size
        for model in (self.model, average, self._teacher):
            if model is not None:
                set_image_size(model, size)
        first, count = self._seed(phase) + step * plan.volumes, (plan.steps - step) * plan.volumes
        dataset = ClipDataset(self.recipe.data_of(plan), plan, size, first, count)
        share, shares = self._processes.rank, self._processes.count
        self._batches = load_clips(dataset, plan.volumes, share=share, shares=shares, workers=self._workers)
        self._validation = None
        if plan.kind == "clicks" and share == 0:
            data, volumes = self.recipe.data_of(plan), self.recipe.validation_volumes
            self._validation = Validation(data, volumes, size, self._processes.device)

    def describe(self, phase: int) -> str:
        """Return the kind of a phase."""
        return self.recipe.phases[phase].kind

    def loss(self, phase: int, step: int) -> BatchLoss:
        """Return the loss of the next batch of clips."""
        plan = self.recipe.phases[phase]
        started = time.perf_counter()
        clips = next(self._batches)
        waited = time.perf_counter() - started
        generator = torch.Generator().manual_seed(self._seed(phase) + step + self._processes.rank * _RANK_STRIDE)
        computed = self._losses.loss(plan, clips, generator)
        self._last = plan, clips, computed.faulty
        values = torch.stack(list(computed.values.values())).tolist()
        return BatchLoss(
            computed.loss, dict(zip(computed.values, values, strict=True)), clips.labels.shape[:3].numel(), waited
        )

    def last_batch(self) -> str:
        """Return the recipe's seed and the seeds of the volumes whose loss is not finite, or of all volumes."""
        if self._last is None:
            return ""
        plan, clips, faulty = self._last
        seeds = torch.as_tensor(clips.seed).tolist()
        bad = {clip // plan.cuts for clip in faulty}
        named = self._processes.gather([seed if i in bad else -1 for i, seed in enumerate(seeds)])
        if not any(seed >= 0 for seed in named):
            named = self._processes.gather(seeds)
        volumes = ", ".join(str(seed) for seed in named if seed >= 0)
        return f"seed {self.recipe.seed}, on the volumes of seeds {volumes}"

    def validate(self, average: nn.Module, picture: Path) -> dict[str, float] | None:
        """Validate on held-out clips; None in a dense phase."""
        return None if self._validation is None else self._validation.run(average, picture)

    def write_weights(self, average: nn.Module, path: Path, notes: dict[str, str]) -> None:
        """Write half-precision weights with architecture and recipe in the header."""
        header = {"recipe": self.recipe.model_dump_json(), **context_of(self.model).header(), **notes}
        save_weights(merged_state(average), self._architecture, int(self.model.image_size), path, header)

    def state(self) -> dict[str, Any]:
        """Return the heads of the auxiliary tasks."""
        return {"heads": self.heads.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore the heads of the auxiliary tasks."""
        self.heads.load_state_dict(state["heads"])

    def _seed(self, phase: int) -> int:
        return self.recipe.seed * _RECIPE_STRIDE + phase * _PHASE_STRIDE


def sam2_loop(recipe: TrainingRecipe, out: Path, processes: Processes, *, resume: bool, workers: int) -> TrainingLoop:
    """Return the loop that trains a recipe in a folder."""
    objective = TrainingObjective(recipe, processes, workers)
    settings = LoopSettings(recipe.clip_norm, recipe.ema, recipe.evaluate_every, recipe.checkpoint_every)
    return TrainingLoop(objective, RunFolder(out), settings, resume=resume, processes=processes)
