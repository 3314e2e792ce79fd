"""Implements the training loop of all objectives: optimisers, moving average, checkpoints, validation."""

import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from synthfm_env.errors import InputError
from synthfm_train.checkpoint import load_checkpoint, save_checkpoint
from synthfm_train.display import Display
from synthfm_train.distributed import Processes
from synthfm_train.interrupt import gentle_interrupt
from synthfm_train.lr_schedule import LrSchedule, schedule
from synthfm_train.run_directory import RunFolder

_LOG_EVERY = 20


class DivergedError(RuntimeError):
    """The loss or its gradient is not finite; the message names the step."""


@dataclass(frozen=True, slots=True)
class BatchLoss:
    """The loss of one batch.

    Attributes:
        total: scalar with gradient.
        values: logged values by name; one is ``loss``.
        items: number of training examples in the batch.
        waited: seconds spent waiting for data.
    """

    total: Tensor
    values: dict[str, float]
    items: int
    waited: float


class Objective(ABC):
    """A model with its loss and its validation, for ``TrainingLoop``.

    Attributes:
        model: the loop trains its parameters and keeps a moving average of them.
        phases: phases of training, in order.
        fresh_optimizers: whether each phase starts with fresh optimisers.
    """

    model: nn.Module
    phases: Sequence[LrSchedule]
    fresh_optimizers: bool = False

    @abstractmethod
    def optimizers(self, phase: int) -> list[torch.optim.Optimizer]:
        """Return new optimisers. The ``lr`` of each group is the full rate, which the schedule multiplies."""

    @abstractmethod
    def begin(self, phase: int, step: int, average: nn.Module) -> None:
        """Prepare the data of a phase from a step on; ``average`` is the moving average's model."""

    def describe(self, phase: int) -> str:
        """Return the name of a phase on the display."""
        return ""

    def last_batch(self) -> str:
        """Describe the data of the last loss, for the message on a divergence. Every process calls it."""
        return ""

    @abstractmethod
    def loss(self, phase: int, step: int) -> BatchLoss:
        """Return the loss of a step. Its random numbers follow from the recipe's seed, the phase and the step."""

    @abstractmethod
    def validate(self, average: nn.Module, picture: Path) -> dict[str, float] | None:
        """Validate the moving average and draw a picture.

        Returns:
            Scores by name; ``score`` selects the best weights. None in a phase without validation.
        """

    @abstractmethod
    def write_weights(self, average: nn.Module, path: Path, notes: dict[str, str]) -> None:
        """Write the moving average's weights for ``make_segmenter``."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Return the objective's own state for a checkpoint, without model and optimisers."""

    @abstractmethod
    def restore(self, state: dict[str, Any]) -> None:
        """Restore the state that ``state`` returned."""


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """Settings of a loop.

    Attributes:
        clip_norm: largest norm of the gradient of all parameters.
        ema: decay of the moving average.
        evaluate_every: steps between validations.
        checkpoint_every: steps between checkpoints.
    """

    clip_norm: float
    ema: float
    evaluate_every: int
    checkpoint_every: int


@dataclass(slots=True)
class _Progress:
    phase: int = 0
    step: int = 0
    best: float = 0.0
    seconds: float = 0.0


class TrainingLoop:
    """Trains an objective in one folder (see ``RunFolder``).

    A resumed loop takes the same steps as one that was not stopped. It saves no random state, because the random
    numbers of an objective follow from the step's number.
    """

    def __init__(
        self,
        objective: Objective,
        folder: RunFolder,
        settings: LoopSettings,
        *,
        resume: bool,
        processes: Processes | None = None,
    ) -> None:
        """Start a training, or resume it from the folder's checkpoint.

        Args:
            objective: to train.
            folder: for checkpoint, weights and metrics.
            settings: of the loop.
            resume: whether to restore the checkpoint.
            processes: that share each step; by default this one alone.

        Raises:
            InputError: the checkpoint is missing, damaged, or of another model.
        """
        self.objective, self.folder, self.settings = objective, folder, settings
        self.processes = processes or Processes(next(objective.model.parameters()).device)
        self.average = AveragedModel(objective.model, multi_avg_fn=get_ema_multi_avg_fn(settings.ema))
        self.at = _Progress()
        self._sums: dict[str, list[float]] = defaultdict(list)
        if resume:
            self._restore()
        else:
            self._set_optimizers()

    @property
    def _leads(self) -> bool:
        """Whether this process logs, validates and writes the files."""
        return self.processes.rank == 0

    def _set_optimizers(self) -> None:
        self._optimizers = self.objective.optimizers(self.at.phase)
        self._full_rates = [[group["lr"] for group in each.param_groups] for each in self._optimizers]

    def run(self) -> Path:
        """Train to the end of the last phase and return the path of the best weights.

        Raises:
            DivergedError: the loss or its gradient is not finite; the last checkpoint stays as it was.
            KeyboardInterrupt: Ctrl-C; the current step was finished and saved.
        """
        with gentle_interrupt() as interrupted:
            for index in range(self.at.phase, len(self.objective.phases)):
                if self.at.phase != index:
                    # Scores of phases on different grids do not compare, so each phase finds its own best.
                    self.at.phase, self.at.step, self.at.best = index, 0, 0.0
                    if self.objective.fresh_optimizers:
                        self._set_optimizers()
                if self.at.step < self.objective.phases[index].steps:
                    self._run_phase(index, interrupted)
        return self.folder.weights

    def _run_phase(self, index: int, interrupted: Callable[[], bool]) -> None:
        """Run the steps of a phase that are left."""
        phase = self.objective.phases[index]
        self.objective.begin(index, self.at.step, self.average.module)
        title = f"phase {index + 1}/{len(self.objective.phases)} {self.objective.describe(index)}".rstrip()
        with Display(title, phase.steps, self.at.step, silent=not self._leads) as display:
            while self.at.step < phase.steps:
                started = time.perf_counter()
                batch = self._step(index, phase)
                spent = time.perf_counter() - started
                self.at.seconds += spent
                self.at.step += 1
                items = batch.items * self.processes.count
                display.step(self.at.step, batch.values["loss"], items, spent, batch.waited)
                self._after_step(phase, {**batch.values, "wait": batch.waited, "seconds": spent}, display)
                if self.processes.any(interrupted()):
                    self.save()
                    raise KeyboardInterrupt

    def _step(self, index: int, phase: LrSchedule) -> BatchLoss:
        """Train one step: learning rates, loss, gradients, update, moving average."""
        share = schedule(phase, self.at.step)
        for optimizer, rates in zip(self._optimizers, self._full_rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * share
        batch = self.objective.loss(index, self.at.step)
        if self.processes.any(not bool(batch.total.isfinite())):
            raise self._diverged("loss")
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)
        batch.total.backward()
        if self.processes.count > 1:
            self._average_gradients()
        norm = nn.utils.clip_grad_norm_(self.objective.model.parameters(), self.settings.clip_norm)
        if not norm.isfinite():
            raise self._diverged("gradient of the loss")
        for optimizer in self._optimizers:
            optimizer.step()
        self.average.update_parameters(self.objective.model)
        return batch

    def _average_gradients(self) -> None:
        """Average the gradients over all processes; a parameter that one of them did not use has gradient zero."""
        gradients = []
        for parameter in (p for each in self._optimizers for group in each.param_groups for p in group["params"]):
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
        self.processes.average(gradients)

    def _diverged(self, quantity: str) -> DivergedError:
        kept, data = self.folder.checkpoint.exists(), self.objective.last_batch()
        return DivergedError(
            f"the {quantity} is not finite at phase {self.at.phase + 1} (phases.{self.at.phase}), step {self.at.step}"
            f"{f', {data}' if data else ''}; {'its last checkpoint is kept' if kept else 'nothing was saved yet'}: "
            f"lower lr or clip_norm and {'go on with --resume' if kept else 'start again'}"
        )

    def _after_step(self, phase: LrSchedule, values: dict[str, float], display: Display) -> None:
        """Log, validate and save where it is due."""
        if not self._leads:
            return
        done = self.at.step == phase.steps
        place = {"phase": self.at.phase, "step": self.at.step}
        for name, value in values.items():
            self._sums[name].append(value)
        if self.at.step % _LOG_EVERY == 0 or done:
            self.folder.log({**place, **{name: sum(each) / len(each) for name, each in self._sums.items()}})
            self._sums.clear()
        if self.at.step % self.settings.evaluate_every == 0 or done:
            self._evaluate(place, display, done)
        if self.at.step % self.settings.checkpoint_every == 0 or done:
            self.save()

    def _evaluate(self, place: dict[str, int], display: Display, done: bool) -> None:
        """Validate the moving average; write its weights if they are the best, or after a phase without scores."""
        picture = self.folder.pictures / f"phase{self.at.phase + 1}-step{self.at.step:06d}.png"
        scores = self.objective.validate(self.average.module, picture)
        writes = done
        if scores is not None:
            self.folder.log({**place, "minutes": self.at.seconds / 60, **scores})
            writes = scores["score"] >= self.at.best
            display.evaluated(scores, writes)
            self.at.best = max(self.at.best, scores["score"])
        if writes:
            notes = {**{k: str(v) for k, v in place.items()}, "minutes": f"{self.at.seconds / 60:.1f}"}
            self.objective.write_weights(self.average.module, self.folder.weights, notes)

    def save(self) -> None:
        """Write the checkpoint; only the first process does."""
        if not self._leads:
            return
        state = {
            "model": self.objective.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "objective": self.objective.state(),
            "phase": self.at.phase,
            "step": self.at.step,
            "best": self.at.best,
            "seconds": self.at.seconds,
            # Sums of the present log line, so that a resumed run logs the same means.
            "sums": dict(self._sums),
        }
        save_checkpoint(state, self.folder.checkpoint)

    def _restore(self) -> None:
        """Restore the state of the checkpoint; raise InputError if it is of another model."""
        path = self.folder.checkpoint
        state = load_checkpoint(path)
        try:
            self.at = _Progress(state["phase"], state["step"], state["best"], state["seconds"])
            self._set_optimizers()
            self.objective.model.load_state_dict(state["model"])
            self.average.load_state_dict(state["average"])
            for optimizer, kept in zip(self._optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(kept)
            self.objective.restore(state["objective"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise InputError(
                f"checkpoint {str(path)!r} is of another model or of other parts that train "
                f"({str(error).splitlines()[0]}); give the recipe and --set that it was started with"
            ) from None
        self._sums.update(state["sums"])
        if self._leads:
            self.folder.forget_after(self.at.phase, self.at.step)
