"""The training loop: phases, optimiser, moving average, checkpoints, validation."""

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from synthfm_env.segmenters.sam2 import build_model, fill, load_weights, set_image_size
from synthfm_env.segmenters.sam2.frames import normalise
from synthfm_train.checkpoint import load_checkpoint, save_checkpoint, save_weights
from synthfm_train.data import ClipDataset, Clips
from synthfm_train.dense import DenseHead, dense_loss
from synthfm_train.initial import attend_in_place, attend_to_clicks
from synthfm_train.recipe import Phase, Recipe
from synthfm_train.rollout import Rollout
from synthfm_train.validation import Validation

_PHASE_STRIDE = 10_000_000  # seeds kept apart for each phase
_RECIPE_STRIDE = 1_000_000_000  # and for each recipe seed


class DivergedError(RuntimeError):
    """The loss is not a number; the message names the step and the volumes."""


@dataclass
class _Progress:
    """Where the run stands: the next step to take, and the best validation so far."""

    phase: int = 0
    step: int = 0
    best: float = 0.0
    seconds: float = 0.0


class Trainer:
    """Runs one recipe in one folder.

    The folder holds ``checkpoint.pt`` (everything to go on from), ``metrics.jsonl``, ``weights.safetensors`` (the
    moving average, best by validation in the last phase) and ``recipe.json``. All draws of a step follow from the
    recipe's seed and the step's number, so a resumed run takes the same steps as one that was never stopped.
    """

    def __init__(self, recipe: Recipe, out: Path, *, resume: bool, workers: int) -> None:
        self.recipe, self.out, self.workers = recipe, out, workers
        out.mkdir(parents=True, exist_ok=True)
        self.architecture = a = recipe.architecture
        # torch initialises modules from its global generator only: it is put back afterwards.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self.model = build_model(a)
            self.head = DenseHead((a.d_model // 8, a.d_model // 4, a.d_model))
        if recipe.weights:
            fill(self.model, load_weights(recipe.weights).state_dict(), Path(recipe.weights))
        else:
            attend_to_clicks(self.model)
            attend_in_place(self.model)
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema))
        self.at = _Progress()
        self.optimizer = self._new_optimizer()
        if resume:
            self._restore()
        (out / "recipe.json").write_text(recipe.model_dump_json(indent=1), encoding="utf-8")

    def _new_optimizer(self) -> torch.optim.AdamW:
        parameters = [*self.model.parameters(), *self.head.parameters()]
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": self.recipe.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.98))

    def run(self) -> Path:
        """Train to the end of the last phase and return the path of the best weights."""
        for index in range(self.at.phase, len(self.recipe.phases)):
            if self.at.phase != index:
                # Validation scores of phases at other sizes do not compare: the best is the best of the last phase.
                self.at.phase, self.at.step, self.at.best = index, 0, 0.0
                self.optimizer = self._new_optimizer()
            self._run_phase(self.recipe.phases[index])
        return self.out / "weights.safetensors"

    def _run_phase(self, phase: Phase) -> None:
        size = phase.image_size or self.architecture.image_size
        set_image_size(self.model, size)
        set_image_size(self.average.module, size)
        validation = Validation(self.recipe, size) if phase.kind == "clicks" else None
        columns = (
            TextColumn(f"phase {self.at.phase + 1}/{len(self.recipe.phases)} {phase.kind}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total} {task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns) as bar:
            task = bar.add_task("train", total=phase.steps, completed=self.at.step, note="")
            waited = time.perf_counter()
            for clips in self._batches(phase, size):
                started = time.perf_counter()
                values = self._step(phase, clips)
                values["wait"] = started - waited
                values["seconds"] = time.perf_counter() - started
                self.at.seconds += time.perf_counter() - waited
                waited = time.perf_counter()
                self.at.step += 1
                self._after_step(phase, values, validation)
                note = " ".join(f"{k} {v:.3f}" for k, v in values.items() if v is not None)
                bar.update(task, completed=self.at.step, note=note)

    def _batches(self, phase: Phase, size: int) -> Iterator[Clips]:
        first = self.recipe.seed * _RECIPE_STRIDE + self.at.phase * _PHASE_STRIDE + self.at.step * phase.volumes
        dataset = ClipDataset(self.recipe.data, phase, size, first, (phase.steps - self.at.step) * phase.volumes)
        loader: DataLoader[Clips] = DataLoader(
            dataset,
            batch_size=phase.volumes,
            num_workers=self.workers,
            prefetch_factor=4 if self.workers else None,
            worker_init_fn=_one_thread,
        )
        return iter(loader)

    def _step(self, phase: Phase, clips: Clips) -> dict[str, float]:
        generator = torch.Generator().manual_seed(
            self.recipe.seed * _RECIPE_STRIDE + self.at.phase * _PHASE_STRIDE + self.at.step
        )
        for group in self.optimizer.param_groups:
            group["lr"] = phase.lr * _schedule(phase, self.at.step)
        frames = normalise(clips.frames.flatten(0, 1)[:, :, None])
        labels = clips.labels.flatten(0, 2)
        with self._arithmetic():
            loss, values = self._losses(phase, frames, clips.masks.flatten(0, 1), labels, generator)
        if not math.isfinite(values["loss"]):
            raise DivergedError(
                f"loss is {values['loss']} at phase {self.at.phase}, step {self.at.step}; "
                f"volumes of seeds {clips.seed}; lower lr or clip_norm, or look at these volumes"
            )
        self._update(loss)
        return values

    @contextmanager
    def _arithmetic(self) -> Iterator[None]:
        """Run in the recipe's precision; in bfloat16 on a CPU plain attention is faster than torch's fused one."""
        if self.recipe.precision == "float32":
            yield
        else:
            with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
                yield

    def _losses(
        self, phase: Phase, frames: Tensor, masks: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        if phase.kind == "dense":
            maps = self.model.forward_image(frames.flatten(0, 1))["backbone_fpn"]
            loss = dense_loss(maps, self.head, labels, generator)
            return loss, {"loss": float(loss.detach())}
        rollout = Rollout(self.model, frames, masks, generator, phase.balance)
        result = rollout.play(phase)
        values = {"loss": float(result.loss.detach()), "dice1": result.first_click, "dice_last": result.last_click}
        if phase.slices > 1:
            values["tracked"] = result.tracked
        maps = [level.flatten(0, 1) for level in rollout.maps]
        dense = dense_loss(maps, self.head, labels, generator)
        values["dense"] = float(dense.detach())
        return result.loss + phase.dense * dense, values

    def _update(self, loss: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm)
        self.optimizer.step()
        self.average.update_parameters(self.model)

    def _after_step(self, phase: Phase, values: dict[str, float], validation: Validation | None) -> None:
        done = self.at.step == phase.steps
        if self.at.step % 20 == 0 or done:
            self._log({"phase": self.at.phase, "step": self.at.step, **values})
        if validation is not None and (self.at.step % self.recipe.evaluate_every == 0 or done):
            scores = validation.run(self.average.module)
            self._log({"phase": self.at.phase, "step": self.at.step, "minutes": self.at.seconds / 60, **scores})
            if scores["score"] >= self.at.best:
                self.at.best = scores["score"]
                self._write_weights()
        if self.at.step % self.recipe.checkpoint_every == 0 or done:
            self.save()

    def _write_weights(self) -> None:
        notes = {
            "recipe": self.recipe.model_dump_json(),
            "phase": str(self.at.phase),
            "step": str(self.at.step),
            "minutes": f"{self.at.seconds / 60:.1f}",
        }
        architecture = replace(self.architecture, image_size=self.model.image_size)
        save_weights(self.average.module.state_dict(), architecture, self.out / "weights.safetensors", notes)

    def _log(self, row: dict[str, Any]) -> None:
        with (self.out / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in row.items()}) + "\n")

    def save(self) -> None:
        """Write the checkpoint."""
        state = {
            "model": self.model.state_dict(),
            "head": self.head.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "phase": self.at.phase,
            "step": self.at.step,
            "best": self.at.best,
            "seconds": self.at.seconds,
        }
        save_checkpoint(state, self.out / "checkpoint.pt")

    def _restore(self) -> None:
        state = load_checkpoint(self.out / "checkpoint.pt")
        self.model.load_state_dict(state["model"])
        self.head.load_state_dict(state["head"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.at = _Progress(state["phase"], state["step"], state["best"], state["seconds"])


def _schedule(phase: Phase, step: int) -> float:
    if step < phase.warmup:
        return (step + 1) / phase.warmup
    share = (step - phase.warmup) / max(1, phase.steps - phase.warmup)
    return phase.final_lr + (1 - phase.final_lr) * 0.5 * (1 + math.cos(math.pi * share))


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)
