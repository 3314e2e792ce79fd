"""The training loop: phases, optimiser, moving average, checkpoints, validation."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from sam2.modeling.sam2_base import SAM2Base
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from synthfm_env.errors import InputError
from synthfm_env.segmenters.sam2 import set_image_size
from synthfm_train.checkpoint import load_checkpoint, save_checkpoint, save_weights
from synthfm_train.display import Display
from synthfm_train.distributed import Processes
from synthfm_train.interrupt import gentle_interrupt
from synthfm_train.lr_schedule import schedule
from synthfm_train.run_directory import RunFolder
from synthfm_train.sam2.build import architecture_of, start_model
from synthfm_train.sam2.clip_dataset import ClipDataset, Clips, load_clips
from synthfm_train.sam2.objective import Task
from synthfm_train.sam2.recipe import Phase, Recipe
from synthfm_train.sam2.validation import Validation

_PHASE_STRIDE = 10_000_000  # seeds kept apart for each phase
_RECIPE_STRIDE = 1_000_000_000  # for each recipe seed
_RANK_STRIDE = 10**15  # and, of the prompts alone, for each process
_LOG_EVERY = 20


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
    """Runs one recipe in one folder (see ``RunFolder``), in one process or in several.

    All draws of a step follow from the recipe's seed and the step's number, so a resumed run takes the same steps
    as one that was never stopped, and no random state needs to be kept.
    """

    def __init__(self, recipe: Recipe, out: Path, processes: Processes, *, resume: bool, workers: int) -> None:
        self.recipe, self.processes, self.workers = recipe, processes, workers
        self.folder = RunFolder(out)
        for index, phase in enumerate(recipe.phases):
            if phase.volumes % processes.count:
                raise InputError(
                    f"phases.{index}.volumes is {phase.volumes}, which {processes.count} processes cannot share "
                    f"evenly; set it to a multiple of {processes.count}"
                )
        self.architecture = architecture_of(recipe)
        model, head = start_model(recipe)
        self.model: SAM2Base = model.to(processes.device)
        self.task = Task(self.model, head.to(processes.device), recipe)
        self._own_size = int(self.model.image_size)
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema))
        self.at = _Progress()
        self.optimizer = self._new_optimizer()
        self._sums: dict[str, list[float]] = defaultdict(list)
        if resume:
            self._restore()

    @property
    def _leads(self) -> bool:
        return self.processes.rank == 0

    def _new_optimizer(self) -> torch.optim.AdamW:
        parameters = [p for p in [*self.model.parameters(), *self.task.head.parameters()] if p.requires_grad]
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": self.recipe.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.98))

    def run(self) -> Path:
        """Train to the end of the last phase and return the path of the best weights.

        Raises:
            DivergedError: the loss or its gradient is not finite; the last checkpoint stays as it was.
            KeyboardInterrupt: Ctrl-C; the step under way has been finished and saved.
        """
        with gentle_interrupt() as interrupted:
            for index in range(self.at.phase, len(self.recipe.phases)):
                if self.at.phase != index:
                    # Validation scores of phases at other sizes do not compare: the best is that of the last phase.
                    self.at.phase, self.at.step, self.at.best = index, 0, 0.0
                    self.optimizer = self._new_optimizer()
                if self.at.step < self.recipe.phases[index].steps:
                    self._run_phase(self.recipe.phases[index], interrupted)
        return self.folder.weights

    def _run_phase(self, phase: Phase, interrupted: Callable[[], bool]) -> None:
        size = phase.image_size or self._own_size
        set_image_size(self.model, size)
        set_image_size(self.average.module, size)
        device = self.processes.device
        validation = None
        if phase.kind == "clicks" and self._leads:
            validation = Validation(self.recipe.data_of(phase), self.recipe.validation_volumes, size, device)
        title = f"phase {self.at.phase + 1}/{len(self.recipe.phases)} {phase.kind}"
        with Display(title, phase.steps, self.at.step, silent=not self._leads) as display:
            waited = time.perf_counter()
            for clips in self._batches(phase, size):
                started = time.perf_counter()
                values = self._step(phase, clips)
                now = time.perf_counter()
                values |= {"wait": started - waited, "seconds": now - started}
                self.at.seconds += now - waited
                self.at.step += 1
                images = clips.labels.shape[:3].numel() * self.processes.count
                display.step(self.at.step, values["loss"], images, now - waited, started - waited)
                waited = now
                self._after_step(phase, values, validation, display)
                if self.processes.any(interrupted()):
                    self.save()
                    raise KeyboardInterrupt

    def _batches(self, phase: Phase, size: int) -> Iterator[Clips]:
        first = self._seed() + self.at.step * phase.volumes
        count = (phase.steps - self.at.step) * phase.volumes
        dataset = ClipDataset(self.recipe.data_of(phase), phase, size, first, count)
        share, shares = self.processes.rank, self.processes.count
        return load_clips(dataset, phase.volumes, share=share, shares=shares, workers=self.workers)

    def _seed(self) -> int:
        return self.recipe.seed * _RECIPE_STRIDE + self.at.phase * _PHASE_STRIDE

    def _step(self, phase: Phase, clips: Clips) -> dict[str, float]:
        generator = torch.Generator().manual_seed(
            self._seed() + self.at.step + self.processes.rank * _RANK_STRIDE,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = phase.lr * schedule(phase, self.at.step)
        outcome = self.task.play(phase, clips, generator)
        if self.processes.any(bool(outcome.faulty)):
            raise self._diverged("loss", phase, clips, outcome.faulty)
        self.optimizer.zero_grad(set_to_none=True)
        outcome.loss.backward()
        if self.processes.count > 1:
            self._average_gradients()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm)
        if not norm.isfinite():
            raise self._diverged("gradient of the loss", phase, clips, list(range(len(clips.frames) * phase.cuts)))
        self.optimizer.step()
        self.average.update_parameters(self.model)
        return dict(zip(outcome.values, torch.stack(list(outcome.values.values())).tolist(), strict=True))

    def _average_gradients(self) -> None:
        """Average over all processes; a part that one of them did not use counts as a gradient of zero."""
        gradients = []
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                gradients.append(parameter.grad)
        self.processes.average(gradients)

    def _diverged(self, what: str, phase: Phase, clips: Clips, faulty: list[int]) -> DivergedError:
        bad = {clip // phase.cuts for clip in faulty}
        seeds = torch.as_tensor(clips.seed).tolist()
        named = self.processes.gather([seed if i in bad else -1 for i, seed in enumerate(seeds)])
        volumes = ", ".join(str(seed) for seed in named if seed >= 0)
        kept = "its last checkpoint is kept" if self.folder.checkpoint.exists() else "nothing was saved yet"
        again = "go on with --resume" if self.folder.checkpoint.exists() else "start again"
        return DivergedError(
            f"the {what} is not finite at phase {self.at.phase + 1} (phases.{self.at.phase}), step {self.at.step}, "
            f"seed {self.recipe.seed}, on the volumes of seeds {volumes}; {kept}: lower lr or clip_norm and "
            f"{again}, or look at these volumes"
        )

    def _after_step(
        self, phase: Phase, values: dict[str, float], validation: Validation | None, display: Display
    ) -> None:
        if not self._leads:
            return
        done = self.at.step == phase.steps
        place = {"phase": self.at.phase, "step": self.at.step}
        for name, value in values.items():
            self._sums[name].append(value)
        if self.at.step % _LOG_EVERY == 0 or done:
            self.folder.log({**place, **{name: sum(all_) / len(all_) for name, all_ in self._sums.items()}})
            self._sums.clear()
        if validation is not None and (self.at.step % self.recipe.evaluate_every == 0 or done):
            picture = self.folder.pictures / f"phase{self.at.phase + 1}-step{self.at.step:06d}.png"
            scores = validation.run(self.average.module, picture)
            self.folder.log({**place, "minutes": self.at.seconds / 60, **scores})
            best = scores["score"] >= self.at.best
            display.evaluated(scores, best)
            if best:
                self.at.best = scores["score"]
                self._write_weights()
        elif validation is None and done:
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
        state, size = self.average.module.state_dict(), int(self.model.image_size)
        save_weights(state, self.architecture, size, self.folder.weights, notes)

    def save(self) -> None:
        """Write the checkpoint; only the first process does."""
        if not self._leads:
            return
        state = {
            "model": self.model.state_dict(),
            "head": self.task.head.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "phase": self.at.phase,
            "step": self.at.step,
            "best": self.at.best,
            "seconds": self.at.seconds,
            # Sums of the log line under way, so that a resumed run's averages equal an undisturbed one's.
            "sums": dict(self._sums),
        }
        save_checkpoint(state, self.folder.checkpoint)

    def _restore(self) -> None:
        path = self.folder.checkpoint
        state = load_checkpoint(path)
        try:
            self.model.load_state_dict(state["model"])
            self.task.head.load_state_dict(state["head"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.at = _Progress(state["phase"], state["step"], state["best"], state["seconds"])
            self._sums.update(state.get("sums", {}))
        except (KeyError, RuntimeError, ValueError) as error:
            raise InputError(
                f"checkpoint {str(path)!r} is of another model or of other parts that train "
                f"({str(error).splitlines()[0]}); give the recipe and --set that it was started with"
            ) from None
        if self._leads:
            self.folder.forget_after(self.at.phase, self.at.step)
