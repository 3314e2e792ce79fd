"""The training loop: optimisers, moving average, checkpoints, validation, for any objective."""

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
from synthfm_train.interrupt import gentle_interrupt
from synthfm_train.lr_schedule import Plan, schedule
from synthfm_train.run_directory import RunFolder

_LOG_EVERY = 20


class DivergedError(RuntimeError):
    """The loss is not a number; the message names the step."""


@dataclass(frozen=True, slots=True)
class BatchLoss:
    """The loss of one batch.

    Attributes:
        total: scalar with gradient.
        values: what is logged, by name, ``loss`` among them.
        items: how many training examples it is of.
        waited: seconds spent waiting for data.
    """

    total: Tensor
    values: dict[str, float]
    items: int
    waited: float


class Objective(ABC):
    """What a loop trains: a model, its losses, its validation.

    Attributes:
        model: its parameters are trained; the loop keeps a moving average of it.
        phases: stretches of training, in order.
    """

    model: nn.Module
    phases: Sequence[Plan]

    @abstractmethod
    def optimizers(self) -> list[torch.optim.Optimizer]:
        """Return fresh optimisers; each group's ``lr`` is its full rate, which the schedule multiplies."""

    @abstractmethod
    def begin(self, phase: int, step: int) -> None:
        """Prepare a phase that goes on with a step."""

    @abstractmethod
    def loss(self, phase: int, step: int) -> BatchLoss:
        """Return the loss of a step; all its draws follow from the recipe's seed, the phase and the step."""

    @abstractmethod
    def validate(self, average: nn.Module, picture: Path) -> dict[str, float]:
        """Return scores of the moving average, ``score`` among them, and draw a picture."""

    @abstractmethod
    def write_weights(self, average: nn.Module, path: Path, notes: dict[str, str]) -> None:
        """Write the moving average's weights for ``make_segmenter``."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps beside model and optimisers."""

    @abstractmethod
    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what ``state`` returned."""


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """How a loop runs.

    Attributes:
        clip_norm: of the gradient of all parameters.
        ema: weight of the past in the moving average.
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

    A resumed loop takes the same steps as one that was never stopped: no random state is kept, because an objective
    draws from the step's number.
    """

    def __init__(self, objective: Objective, folder: RunFolder, settings: LoopSettings, *, resume: bool) -> None:
        self.objective, self.folder, self.settings = objective, folder, settings
        self.average = AveragedModel(objective.model, multi_avg_fn=get_ema_multi_avg_fn(settings.ema))
        self.at = _Progress()
        self._set_optimizers()
        self._sums: dict[str, list[float]] = defaultdict(list)
        if resume:
            self._restore()

    def _set_optimizers(self) -> None:
        self._optimizers = self.objective.optimizers()
        self._full_rates = [[group["lr"] for group in each.param_groups] for each in self._optimizers]

    def run(self) -> Path:
        """Train to the end of the last phase and return the path of the best weights.

        Raises:
            DivergedError: the loss or its gradient is not finite; the last checkpoint stays as it was.
            KeyboardInterrupt: Ctrl-C; the step under way has been finished and saved.
        """
        with gentle_interrupt() as interrupted:
            for index in range(self.at.phase, len(self.objective.phases)):
                if self.at.phase != index:
                    # Scores of phases on other grids do not compare: the best is that of the last phase.
                    self.at.phase, self.at.step, self.at.best = index, 0, 0.0
                if self.at.step < self.objective.phases[index].steps:
                    self._run_phase(index, interrupted)
        return self.folder.weights

    def _run_phase(self, index: int, interrupted: Callable[[], bool]) -> None:
        phase = self.objective.phases[index]
        self.objective.begin(index, self.at.step)
        title = f"phase {index + 1}/{len(self.objective.phases)}"
        with Display(title, phase.steps, self.at.step, silent=False) as display:
            while self.at.step < phase.steps:
                started = time.perf_counter()
                batch = self._step(index, phase)
                spent = time.perf_counter() - started
                self.at.seconds += spent
                self.at.step += 1
                display.step(self.at.step, batch.values["loss"], batch.items, spent, batch.waited)
                self._after_step(phase, {**batch.values, "wait": batch.waited, "seconds": spent}, display)
                if interrupted():
                    self.save()
                    raise KeyboardInterrupt

    def _step(self, index: int, phase: Plan) -> BatchLoss:
        share = schedule(phase, self.at.step)
        for optimizer, rates in zip(self._optimizers, self._full_rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * share
        batch = self.objective.loss(index, self.at.step)
        if not batch.total.isfinite():
            raise self._diverged("loss")
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)
        batch.total.backward()
        norm = nn.utils.clip_grad_norm_(self.objective.model.parameters(), self.settings.clip_norm)
        if not norm.isfinite():
            raise self._diverged("gradient of the loss")
        for optimizer in self._optimizers:
            optimizer.step()
        self.average.update_parameters(self.objective.model)
        return batch

    def _diverged(self, what: str) -> DivergedError:
        kept = self.folder.checkpoint.exists()
        return DivergedError(
            f"the {what} is not finite at phase {self.at.phase + 1} (phases.{self.at.phase}), step {self.at.step}; "
            f"{'its last checkpoint is kept' if kept else 'nothing was saved yet'}: lower lr or clip_norm and "
            f"{'go on with --resume' if kept else 'start again'}"
        )

    def _after_step(self, phase: Plan, values: dict[str, float], display: Display) -> None:
        done = self.at.step == phase.steps
        place = {"phase": self.at.phase, "step": self.at.step}
        for name, value in values.items():
            self._sums[name].append(value)
        if self.at.step % _LOG_EVERY == 0 or done:
            self.folder.log({**place, **{name: sum(each) / len(each) for name, each in self._sums.items()}})
            self._sums.clear()
        if self.at.step % self.settings.evaluate_every == 0 or done:
            picture = self.folder.pictures / f"phase{self.at.phase + 1}-step{self.at.step:06d}.png"
            scores = self.objective.validate(self.average.module, picture)
            self.folder.log({**place, "minutes": self.at.seconds / 60, **scores})
            best = scores["score"] >= self.at.best
            display.evaluated(scores, best)
            if best:
                self.at.best = scores["score"]
                notes = {**{k: str(v) for k, v in place.items()}, "minutes": f"{self.at.seconds / 60:.1f}"}
                self.objective.write_weights(self.average.module, self.folder.weights, notes)
        if self.at.step % self.settings.checkpoint_every == 0 or done:
            self.save()

    def save(self) -> None:
        """Write the checkpoint."""
        state = {
            "model": self.objective.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "objective": self.objective.state(),
            "phase": self.at.phase,
            "step": self.at.step,
            "best": self.at.best,
            "seconds": self.at.seconds,
            # Sums of the log lines under way, so that a resumed run's averages equal an undisturbed one's.
            "sums": dict(self._sums),
        }
        save_checkpoint(state, self.folder.checkpoint)

    def _restore(self) -> None:
        path = self.folder.checkpoint
        state = load_checkpoint(path)
        try:
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
        self.at = _Progress(state["phase"], state["step"], state["best"], state["seconds"])
        self._sums.update(state["sums"])
        self.folder.forget_after(self.at.phase, self.at.step)
