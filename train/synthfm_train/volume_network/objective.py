"""Trains the volume network on simulated episodes."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from synthfm_env.segmenters.cpu_arithmetic import bfloat16_autocast, cpu_has_bfloat16
from synthfm_env.segmenters.focus import FocusPolicy
from synthfm_env.segmenters.volume_network.network import VolumeNetwork
from synthfm_env.segmenters.volume_network.network_input import network_input
from synthfm_env.segmenters.volume_network.segmenter import FLAT_VOLUME, IMAGE, VOLUME
from synthfm_env.segmenters.volume_network.weights import HEADER_KEY, load_network
from synthfm_env.synthesis import SynthFM3D
from synthfm_train.checkpoint import write_tensors
from synthfm_train.data_worker import start_worker
from synthfm_train.loop import BatchLoss, Objective
from synthfm_train.volume_network.episodes import EpisodePool
from synthfm_train.volume_network.losses import losses
from synthfm_train.volume_network.muon import Float32Muon
from synthfm_train.volume_network.recipe import NetworkRecipe, VolumeData
from synthfm_train.volume_network.validation import NetworkValidation
from synthfm_train.volume_network.volumes import TrainingVolume, TrainingVolumes

_RECIPE_STRIDE = 1_000_000_000  # distance between the first volume seeds of two recipe seeds
_FLAT_STRIDE = 500_000_000  # distance from these to the seeds of flat volumes
_VALIDATION_FLAT = 0.25  # share of validation volumes that are flat, if training has such
_NOT_MUON = ("quality", "stem", "coarse", "inputs", "full")  # first, last and other non-hidden kernels


class NetworkObjective(Objective):
    """Losses of simulated clicks on synthetic volumes.

    Each step takes some episodes of a pool, answers them in one forward pass, and gives each one more click.
    """

    def __init__(self, recipe: NetworkRecipe, device: torch.device, workers: int) -> None:
        self.recipe, self.phases, self._device = recipe, recipe.phases, device
        if recipe.weights is None:
            with torch.random.fork_rng(devices=[]):  # gives the caller's state back
                torch.manual_seed(recipe.seed)
                network = VolumeNetwork(recipe.architecture)
        else:
            network = load_network(Path(recipe.weights)).train()
        self.model: VolumeNetwork = network.to(device)
        first = recipe.seed * _RECIPE_STRIDE
        grids = IMAGE if recipe.dimensions == 2 else VOLUME
        self._pools = {"volumes": self._pool(recipe.data, grids.policy, first, workers)}
        if any(phase.flat_share for phase in recipe.phases):
            self._pools["flat"] = self._pool(recipe.flat_data, FLAT_VOLUME.policy, first + _FLAT_STRIDE, workers)
        self._validation: NetworkValidation | None = None

    def _pool(self, data: VolumeData, policy: FocusPolicy, first: int, workers: int) -> EpisodePool:
        """Return a pool of episodes on volumes from a first seed on, drawn by worker processes in a fixed order."""
        generators = data.generators()

        def stream(taken: int) -> Iterator[tuple[TrainingVolume, int]]:
            done, used = divmod(taken, data.structures)
            volumes = TrainingVolumes(
                generators, first=first + done, count=_FLAT_STRIDE, structures=data.structures,
                min_voxels=data.min_voxels,
            )  # fmt: skip
            loader = DataLoader(
                volumes, batch_size=None, num_workers=workers, prefetch_factor=4 if workers else None,
                worker_init_fn=start_worker,
            )  # fmt: skip
            for volume in loader:
                for index in range(used, data.structures):
                    yield volume, index
                used = 0

        # A GPU answers faster than one thread can place clicks.
        threads = (os.cpu_count() or 1) if self._device.type == "cuda" else 1
        return EpisodePool(self.recipe.pool, policy, stream, threads)

    def optimizers(self, phase: int) -> list[torch.optim.Optimizer]:
        """Return Muon for hidden kernels and AdamW for all else, or AdamW alone."""
        recipe = self.recipe
        named = list(self.model.named_parameters())
        hidden = [p for name, p in named if p.ndim == 2 and name.split(".")[0] not in _NOT_MUON]
        if recipe.optimizer == "adamw":
            hidden = []
        kept = {id(p) for p in hidden}
        others = [p for _, p in named if id(p) not in kept]
        adamw = torch.optim.AdamW(others, recipe.lr, weight_decay=recipe.weight_decay, betas=(0.9, 0.98))
        if not hidden:
            return [adamw]
        slow = self._device.type == "cpu" and not cpu_has_bfloat16()
        muon = (Float32Muon if slow else torch.optim.Muon)(
            hidden, recipe.muon_lr, recipe.weight_decay, momentum=0.95, adjust_lr_fn="match_rms_adamw"
        )
        return [muon, adamw]

    def begin(self, phase: int, step: int, average: nn.Module) -> None:
        """Prepare nothing: the pools continue through all phases."""

    def loss(self, phase: int, step: int) -> BatchLoss:
        """Return the loss of one answer in some episodes, and place the next click in each."""
        plan = self.recipe.phases[phase]
        rng = np.random.default_rng((self.recipe.seed, phase, step))
        flat = rng.random() < plan.flat_share
        pool, grid = (self._pools["flat"], plan.flat_grid) if flat else (self._pools["volumes"], plan.grid)
        started = time.perf_counter()
        episodes = pool.draw(plan.batch, grid, rng)
        prompts = pool.map(lambda episode: episode.prompt(grid).to(self._device), episodes)
        views = pool.map(lambda episode: episode.view(grid), episodes)
        waited = time.perf_counter() - started
        given = network_input(prompts)
        with bfloat16_autocast(self._device):
            output = self.model(given)
        truths = torch.stack([view[1] for view in views]).to(self._device)
        shares = torch.tensor([view[2] for view in views], device=self._device)
        loss = losses(output, truths, shares)
        pool.advance(output.logits.detach().cpu(), grid, rng)
        values = {
            "loss": float(loss.total.detach()),
            "dice": float(loss.dice.mean()),
            "quality_error": float(loss.quality_error),
        }
        return BatchLoss(loss.total, values, len(episodes), waited)

    def validate(self, average: nn.Module, picture: Path) -> dict[str, float]:
        """Play episodes on held-out volumes with the moving average; see ``NetworkValidation``."""
        assert isinstance(average, VolumeNetwork)
        if self._validation is None:
            generators = _taking_turns(self.recipe)
            count, least = self.recipe.validation_volumes, self.recipe.data.min_voxels
            self._validation = NetworkValidation(generators, count, least, self._device)
        return self._validation.run(average, picture)

    def write_weights(self, average: nn.Module, path: Path, notes: dict[str, str]) -> None:
        """Write half-precision weights with the architecture and the recipe in the header."""
        header = {HEADER_KEY: self.recipe.architecture.to_json(), "recipe": self.recipe.model_dump_json()}
        write_tensors(average.state_dict(), path, {**header, **notes})

    def state(self) -> dict[str, Any]:
        """Return the state of the running episodes."""
        return {name: pool.state() for name, pool in self._pools.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore the running episodes."""
        for name, pool in self._pools.items():
            pool.restore(state[name])


def _taking_turns(recipe: NetworkRecipe) -> list[SynthFM3D]:
    """Return generators that take turns, with the share of flat volumes in validation."""
    generators = recipe.data.generators()
    if any(phase.flat_share for phase in recipe.phases):
        flat = recipe.flat_data.generators()
        count = max(1, round(len(generators) * _VALIDATION_FLAT / (1 - _VALIDATION_FLAT)))
        generators += [flat[i % len(flat)] for i in range(count)]
    return generators
