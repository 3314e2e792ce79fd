"""Trains the refiner: plays episodes, fits what they left, plays again with what was fitted."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from synthfm_env.errors import InputError
from synthfm_env.metrics import dice
from synthfm_env.segmenters.sam2 import Refiner, seeded
from synthfm_train.checkpoint import load_checkpoint, save_checkpoint, write_tensors
from synthfm_train.data_worker import start_worker
from synthfm_train.display import LINE_EVERY_S, Display
from synthfm_train.interrupt import gentle_interrupt
from synthfm_train.lr_schedule import schedule
from synthfm_train.refiner.crop_dataset import Crop, Crops
from synthfm_train.refiner.recipe import RefinerRecipe
from synthfm_train.refiner.recording import Episodes, load_draft, play_all
from synthfm_train.run_directory import RunFolder

_LOG_EVERY = 20
_HELD_OUT = 12  # one volume in so many is for validation
_VALIDATED = 100  # drafts
_SMOOTH = 20.0  # voxels added to both sides of the soft Dice


@dataclass
class _Progress:
    round: int = 0
    step: int = 0
    seconds: float = 0.0


class RefinerTrainer:
    """Runs one recipe in one folder: ``drafts/`` of its episodes, ``weights.safetensors``, metrics, a checkpoint.

    All draws of a step follow from the recipe's seed and the step's number, as in ``Trainer``.
    """

    def __init__(self, recipe: RefinerRecipe, out: Path, device: torch.device, *, resume: bool, workers: int) -> None:
        self.recipe, self.device, self.workers = recipe, device, workers
        self.folder = RunFolder(out)
        with seeded(recipe.seed):
            self.model = Refiner().to(device)
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema))
        self.at = _Progress()
        self.optimizer = self._new_optimizer()
        if resume:
            self._restore()

    def _new_optimizer(self) -> torch.optim.AdamW:
        decay = self.recipe.weight_decay
        return torch.optim.AdamW(self.model.parameters(), lr=1e-3, weight_decay=decay, betas=(0.9, 0.98))

    def run(self) -> Path:
        """Train to the end of the last round and return the path of the weights.

        Raises:
            InputError: no episode gave a draft.
            KeyboardInterrupt: Ctrl-C; the volumes played and the step under way are kept.
        """
        for number in range(self.at.round, len(self.recipe.rounds)):
            if self.at.round != number:
                self.at.round, self.at.step = number, 0
                self.optimizer = self._new_optimizer()
            self._play(number)
            with gentle_interrupt() as interrupted:
                self._fit(number, interrupted)
        return self.folder.weights

    def _drafts(self, number: int) -> Path:
        return self.folder.path / "drafts" / f"round{number}"

    def _play(self, number: int) -> None:
        self.save()  # the volumes played before Ctrl-C are found again by --resume
        refiner = self.folder.weights if number else None
        episodes = Episodes(self.recipe, number, self._drafts(number), refiner)
        played = play_all(episodes, self.workers)
        console = Console(stderr=True)
        title = f"round {number + 1}/{len(self.recipe.rounds)} volumes played"
        said = time.monotonic()
        bar = track(played, title, len(episodes), console=console, disable=not console.is_terminal)
        for done, _ in enumerate(bar, 1):
            if not console.is_terminal and time.monotonic() - said >= LINE_EVERY_S:
                said = time.monotonic()
                console.print(f"{title}: {done} of {len(episodes)}")
        if not self._paths(number, held_out=False):
            raise InputError(
                f"recipe {self.recipe.name!r}: none of the {len(episodes)} volumes of round {number + 1} gave a draft "
                "to learn from; give it more volumes, or volumes of eight slices and more"
            )

    def _paths(self, number: int, *, held_out: bool) -> list[Path]:
        """Return the drafts of a round and of those before it, for validation or for training."""
        volumes = [volume for r in range(number + 1) for volume in sorted(self._drafts(r).glob("[0-9]" * 6))]
        return [
            path
            for volume in volumes
            if (int(volume.name) % _HELD_OUT == 0) is held_out
            for path in sorted(volume.glob("*.npz"))
        ]

    def _fit(self, number: int, interrupted: Callable[[], bool]) -> None:
        plan = self.recipe.rounds[number]
        first = (number * 1_000_000 + self.at.step) * self.recipe.batch
        count = (plan.steps - self.at.step) * self.recipe.batch
        crops = Crops(self._paths(number, held_out=False), self.recipe.crop, self.recipe.seed, first, count)
        loader = iter(DataLoader(crops, batch_size=None, num_workers=min(1, self.workers), worker_init_fn=start_worker))
        title = f"round {number + 1}/{len(self.recipe.rounds)} fit"
        losses: list[float] = []
        with Display(title, plan.steps, self.at.step, silent=False) as display:
            for _ in range(plan.steps - self.at.step):
                started = time.perf_counter()
                for group in self.optimizer.param_groups:
                    group["lr"] = plan.lr * schedule(plan, self.at.step)
                batch = [next(loader) for _ in range(self.recipe.batch)]
                waited = time.perf_counter() - started
                losses.append(self._step(batch))
                self.at.step += 1
                spent = time.perf_counter() - started
                self.at.seconds += spent
                display.step(self.at.step, losses[-1], len(batch), spent, waited)
                done = self.at.step == plan.steps
                if self.at.step % _LOG_EVERY == 0 or done:
                    self._log({"loss": sum(losses) / len(losses), "wait": waited})
                    losses.clear()
                if done:
                    self._finish(number, display)
                elif self.at.step % self.recipe.checkpoint_every == 0 or interrupted():
                    self.save()
                if interrupted():
                    raise KeyboardInterrupt

    def _step(self, batch: list[Crop]) -> float:
        self.optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for crop in batch:
            channels, logits, truth = (part.to(self.device) for part in crop)
            channels = channels[None].contiguous(memory_format=torch.channels_last_3d)
            # On CPUs with bfloat16 instructions convolutions take a third of the time; elsewhere it loses nothing here.
            with torch.autocast(self.device.type, torch.bfloat16):
                added = self.model(channels)[0]
            loss = refiner_loss(logits + added.float(), truth) / len(batch)
            loss.backward()
            total += float(loss.detach())
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm)
        if not norm.isfinite():
            raise RuntimeError(f"the gradient is not finite at step {self.at.step} of round {self.at.round + 1}")
        self.optimizer.step()
        self.average.update_parameters(self.model)
        return total

    def _finish(self, number: int, display: Display) -> None:
        header = {"recipe": self.recipe.model_dump_json(), "round": str(number), "step": str(self.at.step)}
        write_tensors(self.average.module.state_dict(), self.folder.weights, header)
        scores = self._validate(number)
        self._log({"minutes": self.at.seconds / 60, **scores})
        display.evaluated(scores, best=False)
        self.save()

    @torch.inference_mode()
    def _validate(self, number: int) -> dict[str, float]:
        """Return the mean Dice in the boxes of held out drafts, as they are and refined."""
        paths = self._paths(number, held_out=True)
        refiner = cast(Refiner, self.average.module)
        before, after = [], []
        for path in paths[:: max(1, len(paths) // _VALIDATED)]:
            draft, share = load_draft(path)
            truth = (share > 0.5).numpy()
            before.append(dice((draft.logits > 0).numpy(), truth))
            after.append(dice((refiner.refine(draft) > 0).numpy(), truth))
        n = max(1, len(before))
        return {"val_draft": sum(before) / n, "val_refined": sum(after) / n}

    def _log(self, values: dict[str, float]) -> None:
        self.folder.log({"phase": self.at.round, "step": self.at.step, **values})

    def save(self) -> None:
        """Write the checkpoint."""
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "round": self.at.round,
            "step": self.at.step,
            "seconds": self.at.seconds,
        }
        save_checkpoint(state, self.folder.checkpoint)

    def _restore(self) -> None:
        state = load_checkpoint(self.folder.checkpoint)
        try:
            self.model.load_state_dict(state["model"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.at = _Progress(state["round"], state["step"], state["seconds"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise InputError(
                f"checkpoint {str(self.folder.checkpoint)!r} is not of a refiner ({str(error).splitlines()[0]}); "
                "give the recipe that it was started with"
            ) from None
        self.folder.forget_after(self.at.round, self.at.step)


def refiner_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Return cross-entropy plus soft Dice of one crop.

    Args:
        logits: float32 (d, h, w).
        truth: float32 (d, h, w), 0 to 1.
    """
    probability = logits.sigmoid()
    overlap, sizes = (probability * truth).sum(), probability.sum() + truth.sum()
    soft = 1 - (2 * overlap + _SMOOTH) / (sizes + _SMOOTH)
    return F.binary_cross_entropy_with_logits(logits, truth) + soft
