"""Provides the settings of a training that takes a second."""

from pathlib import Path

from synthfm_train.distributed import Processes, start_processes
from synthfm_train.loop import TrainingLoop
from synthfm_train.sam2.objective import TrainingObjective, sam2_loop
from synthfm_train.sam2.recipe import load_recipe

TINY = (
    "architecture.image_size=32",
    "architecture.embed_dim=16",
    "architecture.stages=[1,1,2,1]",
    "architecture.global_att_blocks=[3]",
    "architecture.window_spec=[4,4,2,2]",
    "architecture.d_model=32",
    "architecture.mem_dim=16",
    "data.shape=[8,32,32]",
    "data.recipe='clear'",
    "data.min_pixels=8",
    "validation_volumes=1",
    "evaluate_every=100",
    "checkpoint_every=100",
)
CLIPS = "phases=[{steps=4,volumes=1,cuts=1,slices=3,objects=1,clicks=2,corrections=1}]"
IMAGES = "phases=[{steps=2,volumes=1,cuts=1,objects=1,clicks=1}]"


def alone() -> Processes:
    return start_processes("cpu", 1)


def tiny_trainer(out: Path, *overrides: str, resume: bool = False) -> TrainingLoop:
    recipe = load_recipe("synthfm3d-nano", (*TINY, *overrides))
    return sam2_loop(recipe, out, alone(), resume=resume, workers=0)


def tiny_objective(*overrides: str) -> TrainingObjective:
    return TrainingObjective(load_recipe("synthfm3d-nano", (*TINY, *overrides)), alone(), workers=0)
