"""Runs a training: ``synthfm train``."""

import os
import shlex
from pathlib import Path
from typing import Literal

import torch
from rich.console import Console

from synthfm_env.errors import InputError, UserFacingError
from synthfm_train.distributed import Processes, start_processes
from synthfm_train.loop import LoopSettings, TrainingLoop
from synthfm_train.recipe_io import read_fields
from synthfm_train.run_directory import RunFolder
from synthfm_train.sam2.objective import sam2_loop
from synthfm_train.sam2.recipe import TrainingRecipe, load_recipe
from synthfm_train.volume_network.objective import NetworkObjective
from synthfm_train.volume_network.recipe import NetworkRecipe, load_network_recipe

Kind = Literal["sam2", "volume-network"]


def train(
    recipe: str,
    *,
    out: Path,
    overrides: tuple[str, ...] = (),
    resume: bool = False,
    device: str = "auto",
    devices: int = 1,
    workers: int | None = None,
) -> Path:
    """Train a recipe in a folder and return the path of the best weights.

    Args:
        recipe: a packaged name or a TOML file.
        out: the run's folder.
        overrides: changes to the recipe, ``"key=value"``.
        resume: whether to resume from the folder's checkpoint.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or a numbered one.
        devices: number of processes that share each step's volumes, on CUDA one for each GPU. Lightning Fabric starts
            them by running this program again; all but the first exit in this function.
        workers: number of processes that make volumes, for each device; by default the free cores, at most 8.

    Raises:
        InputError: the recipe is invalid, or the folder contains a run and ``resume`` is False.
        DivergedError: the loss is not finite.
        UserFacingError: the disk is full; the message states what is kept and how to continue.
        KeyboardInterrupt: Ctrl-C; the message gives the command to continue.
    """
    # Check what the user asks for.
    kind = kind_of(recipe, overrides)
    chosen = load_any_recipe(recipe, overrides)
    has_checkpoint = os.path.isfile(out / "checkpoint.pt")
    if resume and not has_checkpoint:
        raise InputError(f"no checkpoint {str(out / 'checkpoint.pt')!r} to resume from; start without --resume")
    if not resume and has_checkpoint:
        raise InputError(f"{str(out)!r} holds a run already; add --resume to go on with it, or give another --out")
    if kind != "sam2" and devices > 1:
        raise InputError(f"recipe {recipe!r} trains a {kind} on one device; leave out --devices {devices}")
    # Build the model and its loop, or restore them.
    processes = start_processes(device, devices)
    torch.set_num_threads(1)
    if workers is None:
        workers = max(1, min(8, (os.cpu_count() or 1) // devices - 1))
    loop = _make_loop(chosen, out, processes, resume=resume, workers=workers)
    if processes.rank == 0:
        changed = RunFolder(out).write_recipe(chosen)
        if changed and resume:
            Console(stderr=True).print(f"note: the recipe differs from the folder's in {', '.join(changed)}")
    # Train; if that is stopped, tell what is kept and how to resume.
    try:
        weights = loop.run()
    except KeyboardInterrupt as stop:
        processes.finish()
        command = _resume_command(recipe, out, overrides, device, devices)
        kept = (
            f"stopped and saved; go on with: {command}"
            if command
            else "stopped before the first step; nothing was kept"
        )
        raise type(stop)(kept) from None
    except OSError as error:
        command = _resume_command(recipe, out, overrides, device, devices)
        where = error.filename or out
        kept = f"its checkpoint is kept; make room, then go on with: {command}" if command else "nothing was kept"
        raise UserFacingError(f"{where}: cannot be written ({error.strerror or error}): {kept}") from error
    processes.finish()
    return weights


def _make_loop(
    recipe: TrainingRecipe | NetworkRecipe,
    out: Path,
    processes: Processes,
    *,
    resume: bool,
    workers: int,
) -> TrainingLoop:
    """Return the loop of a recipe of any kind."""
    if isinstance(recipe, TrainingRecipe):
        return sam2_loop(recipe, out, processes, resume=resume, workers=workers)
    objective = NetworkObjective(recipe, processes.device, workers)
    settings = LoopSettings(recipe.clip_norm, recipe.ema, recipe.evaluate_every, recipe.checkpoint_every)
    return TrainingLoop(objective, RunFolder(out), settings, resume=resume)


def kind_of(recipe: str, overrides: tuple[str, ...] = ()) -> Kind:
    """Return the kind of network that a recipe trains."""
    return "volume-network" if read_fields(recipe, overrides).get("kind") == "volume-network" else "sam2"


def load_any_recipe(recipe: str, overrides: tuple[str, ...] = ()) -> TrainingRecipe | NetworkRecipe:
    """Read a recipe of any kind; see ``load_recipe``."""
    load = load_network_recipe if kind_of(recipe, overrides) == "volume-network" else load_recipe
    return load(recipe, overrides)


def _resume_command(recipe: str, out: Path, overrides: tuple[str, ...], device: str, devices: int) -> str:
    """Return the command that resumes from the checkpoint, quoted for a shell; empty without a checkpoint."""
    if not (out / "checkpoint.pt").exists():
        return ""
    command = ["synthfm", "train", recipe, "--resume", "--out", str(out)]
    command += ["--device", device] if device != "auto" else []
    command += ["--devices", str(devices)] if devices > 1 else []
    command += [part for change in overrides for part in ("--set", change)]
    return shlex.join(command)
