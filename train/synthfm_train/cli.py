"""What ``synthfm train`` does."""

from pathlib import Path

import torch

from synthfm_env.errors import InputError
from synthfm_train.recipe import load_recipe
from synthfm_train.trainer import Trainer


def train(recipe: str, *, out: Path, overrides: tuple[str, ...] = (), resume: bool = False, workers: int = 1) -> Path:
    """Train by a recipe, in a folder, and return the path of the best weights.

    Args:
        recipe: a packaged name or a TOML file.
        out: the run's folder.
        overrides: ``"key=value"`` changes to the recipe.
        resume: go on from the folder's checkpoint.
        workers: processes that make volumes.

    Raises:
        InputError: a bad recipe, or a folder that holds a run already and ``resume`` was not asked for.
    """
    if not resume and (out / "checkpoint.pt").exists():
        raise InputError(f"{str(out)!r} holds a run already; add --resume to go on with it, or give another --out")
    torch.set_num_threads(1)
    trainer = Trainer(load_recipe(recipe, overrides), out, resume=resume, workers=workers)
    try:
        return trainer.run()
    except KeyboardInterrupt:
        trainer.save()
        raise
