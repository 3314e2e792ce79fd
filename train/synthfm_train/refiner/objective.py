"""Trains the refiner in rounds (DAgger): record inputs from episodes, fit, record again with the fitted refiner."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn
from torch.utils.data import DataLoader

from synthfm_env.errors import InputError
from synthfm_env.files import remove_unfinished
from synthfm_env.metrics import dice
from synthfm_env.segmenters.cpu_arithmetic import bfloat16_autocast
from synthfm_env.segmenters.sam2 import Refiner, seeded
from synthfm_train.checkpoint import write_tensors
from synthfm_train.data_worker import start_worker
from synthfm_train.display import LINE_EVERY_S
from synthfm_train.loop import BatchLoss, LoopSettings, Objective, TrainingLoop
from synthfm_train.refiner.crop_dataset import Crop, Crops
from synthfm_train.refiner.recipe import RefinerRecipe
from synthfm_train.refiner.recording import RecordedVolumes, load_input, play_all
from synthfm_train.run_directory import RunFolder

_HELD_OUT = 12  # every twelfth volume is for validation
_VALIDATED = 100  # inputs to validate on, at least, if there are as many
_SMOOTH = 20.0  # voxels added to both sides of the soft Dice
_ROUND_STRIDE = 1_000_000  # steps whose crops are kept apart for each round


class RefinerObjective(Objective):
    """Loss of the refiner on crops of recorded inputs. Each phase is one round of the recipe.

    Attributes:
        recipe: of the training.
        model: the refiner.
    """

    fresh_optimizers = True
    records = True

    def __init__(self, recipe: RefinerRecipe, folder: RunFolder, device: torch.device, workers: int) -> None:
        """Build the network. The folder gets recorded inputs in ``drafts/``, and has the weights to record with."""
        self.recipe, self.phases = recipe, recipe.rounds
        self._folder, self._device, self._workers = folder, device, workers
        with seeded(recipe.seed):
            self.model: Refiner = Refiner().to(device)
        self._round = 0
        self._crops: Iterator[Crop] = iter(())

    def optimizers(self, phase: int) -> list[torch.optim.Optimizer]:
        """Return AdamW at the round's rate."""
        lr, decay = self.recipe.rounds[phase].lr, self.recipe.weight_decay
        return [torch.optim.AdamW(self.model.parameters(), lr=lr, weight_decay=decay, betas=(0.9, 0.98))]

    def record(self, phase: int, interrupted: Callable[[], bool]) -> None:
        """Play the round's volumes, with the refiner of the round before.

        Raises:
            InputError: no episode gave an input.
            KeyboardInterrupt: Ctrl-C; the volumes played are kept.
        """
        drafts = self._drafts(phase)
        remove_unfinished(drafts)
        episodes = RecordedVolumes(self.recipe, phase, drafts, self._folder.weights if phase else None)
        console = Console(stderr=True)
        title = f"phase {phase + 1}/{len(self.phases)} volumes played"
        last_line = time.monotonic()
        played = play_all(episodes, self._workers)
        bar = track(played, title, len(episodes), console=console, disable=not console.is_terminal)
        for done, _ in enumerate(bar, 1):
            if interrupted():
                raise KeyboardInterrupt
            if not console.is_terminal and time.monotonic() - last_line >= LINE_EVERY_S:
                last_line = time.monotonic()
                console.print(f"{title}: {done} of {len(episodes)}")
        if not self._paths(phase, held_out=False):
            raise InputError(
                f"recipe {self.recipe.name!r}: none of the {len(episodes)} volumes of round {phase + 1} gave an "
                "input to learn from; give it more volumes, or volumes of eight slices and more"
            )

    def begin(self, phase: int, step: int, average: nn.Module) -> None:
        """Open the crops of the round's remaining steps."""
        self._round = phase
        batch = self.recipe.batch
        first = (phase * _ROUND_STRIDE + step) * batch
        count = (self.recipe.rounds[phase].steps - step) * batch
        crops = Crops(self._paths(phase, held_out=False), self.recipe.crop, self.recipe.seed, first, count)
        workers = min(1, self._workers)
        self._crops = iter(DataLoader(crops, batch_size=None, num_workers=workers, worker_init_fn=start_worker))

    def loss(self, phase: int, step: int) -> BatchLoss:
        """Return the mean loss of the next crops, which differ in shape and pass the network one by one."""
        started = time.perf_counter()
        batch = [next(self._crops) for _ in range(self.recipe.batch)]
        waited = time.perf_counter() - started
        losses = []
        for crop in batch:
            channels, logits, truth = (part.to(self._device) for part in crop)
            channels = channels[None].contiguous(memory_format=torch.channels_last_3d)
            with bfloat16_autocast(self._device):
                added = self.model(channels)[0]
            losses.append(refiner_loss(logits + added.float(), truth))
        total = torch.stack(losses).mean()
        return BatchLoss(total, {"loss": float(total.detach())}, len(batch), waited)

    @torch.inference_mode()
    def validate(self, average: nn.Module, picture: Path) -> dict[str, float]:
        """Return the mean Dice of held-out inputs, before and after refinement by the moving average."""
        assert isinstance(average, Refiner)
        paths = self._paths(self._round, held_out=True)
        before, after = [], []
        for path in paths[:: max(1, len(paths) // _VALIDATED)]:
            inputs, share = load_input(path)
            truth = (share > 0.5).numpy()
            before.append(dice((inputs.logits > 0).numpy(), truth))
            after.append(dice((average.refine(inputs) > 0).numpy(), truth))
        n = max(1, len(before))
        refined = sum(after) / n
        return {"val_draft": sum(before) / n, "val_refined": refined, "score": refined}

    def write_weights(self, average: nn.Module, path: Path, notes: dict[str, str]) -> None:
        """Write half-precision weights with the recipe in the header."""
        write_tensors(average.state_dict(), path, {"recipe": self.recipe.model_dump_json(), **notes})

    def state(self) -> dict[str, Any]:
        """Return nothing, because the recorded inputs are files."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore nothing."""

    def _drafts(self, phase: int) -> Path:
        return self._folder.path / "drafts" / f"round{phase}"

    def _paths(self, phase: int, *, held_out: bool) -> list[Path]:
        """Return the files of recorded inputs of a round and of those before it, for validation or for training."""
        volumes = [volume for r in range(phase + 1) for volume in sorted(self._drafts(r).glob("[0-9]" * 6))]
        return [
            path
            for volume in volumes
            if (int(volume.name) % _HELD_OUT == 0) is held_out
            for path in sorted(volume.glob("*.npz"))
        ]


def refiner_loop(recipe: RefinerRecipe, out: Path, device: torch.device, *, resume: bool, workers: int) -> TrainingLoop:
    """Return the loop that trains a recipe in a folder; it validates at the end of each round."""
    folder = RunFolder(out)
    longest = max(training_round.steps for training_round in recipe.rounds)
    settings = LoopSettings(recipe.clip_norm, recipe.ema, longest, recipe.checkpoint_every)
    objective = RefinerObjective(recipe, folder, device, workers)
    return TrainingLoop(objective, folder, settings, resume=resume)


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
