"""Builds and initialises the model of a recipe."""

import os
from pathlib import Path

from safetensors import SafetensorError, safe_open
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor

from synthfm_env.errors import InputError
from synthfm_env.segmenters.sam2 import OFFICIAL, Architecture, build_model, build_official, fill, load_weights, seeded
from synthfm_env.segmenters.sam2.checkpoints import weights_path
from synthfm_env.segmenters.sam2.slice_context import SliceContext, add_context, context_of
from synthfm_train.sam2.freezing import DECODER, freeze
from synthfm_train.sam2.heads import TrainingHeads
from synthfm_train.sam2.initialization import attend_in_place, attend_to_clicks
from synthfm_train.sam2.lora import add_low_rank_updates
from synthfm_train.sam2.recipe import RANDOM, TrainingRecipe

_TRUNK = "image_encoder.trunk."


def architecture_of(recipe: TrainingRecipe) -> Architecture | str:
    """Return the architecture that a recipe trains: its own, or else that of its weights; nano's for random weights.

    Raises:
        InputError: neither the recipe nor the header of its weights names an architecture, or a phase's frames do not
            fit it.
    """
    architecture = _stated_architecture(recipe)
    if isinstance(architecture, Architecture):
        for index, phase in enumerate(recipe.phases):
            if (phase.image_size or 0) % architecture.frame_step:
                raise InputError(
                    f"phases.{index}.image_size {phase.image_size} is no multiple of {architecture.frame_step}, four "
                    "times the first of the architecture's window_spec"
                )
    return architecture


def _stated_architecture(recipe: TrainingRecipe) -> Architecture | str:
    """Return the architecture that the recipe or its weights state; see ``architecture_of``."""
    if recipe.architecture is not None:
        return recipe.architecture
    if recipe.weights == RANDOM:
        return Architecture()
    if recipe.weights in OFFICIAL:
        return recipe.weights
    path = weights_path(recipe.weights)
    header: dict[str, str] = {}
    if path.suffix == ".safetensors" and os.path.isfile(path):
        try:
            with safe_open(path, framework="pt") as file:
                header = file.metadata() or {}
        except SafetensorError as error:
            raise InputError(f"weights {str(path)!r} are damaged or no safetensors file: {error}") from None
    if "architecture" in header:
        return Architecture.from_json(header["architecture"])
    if "official" in header:
        return header["official"]
    load_weights(recipe.weights)  # raises if the file is broken, which is the better message
    raise InputError(
        f"weights {recipe.weights!r} do not name their architecture: set it, for example "
        '--set architecture="sam2.1-hiera-tiny"'
    )


def start_model(recipe: TrainingRecipe) -> tuple[SAM2Base, TrainingHeads]:
    """Build the model and the heads of the auxiliary losses, load or initialise their weights, and freeze parts.

    Raises:
        InputError: the weights cannot be read, or are of another architecture.
    """
    architecture = architecture_of(recipe)
    # Random weights of the architecture.
    with seeded(recipe.seed):
        model: SAM2Base
        model = build_official(architecture) if isinstance(architecture, str) else build_model(architecture)
        heads = TrainingHeads(model, recipe)
    # Initialise attention, or load weights over the random ones.
    if recipe.weights == RANDOM:
        attend_to_clicks(model)
        attend_in_place(model)
    else:
        random = {name: value.clone() for name, value in model.state_dict().items() if name.startswith(DECODER)}
        start = load_weights(recipe.weights)
        _adopt_context(model, context_of(start), recipe)
        fill(model, _with_new_trunk(model, start), Path(recipe.weights))
        if recipe.trains == "decoder-from-scratch":
            model.load_state_dict(random, strict=False)
    # Parts that are added start from the recipe's seed, and train even if what they are added to is frozen.
    with seeded(recipe.seed):
        if context_of(model) == SliceContext():
            add_context(model, recipe.context)
        freeze(model, recipe.trains)
        if recipe.lora:
            add_low_rank_updates(model, recipe.lora)
    model.eval()
    return model, heads


def teacher_of(recipe: TrainingRecipe) -> SAM2Base | None:
    """Return the frozen model that a distill phase of the recipe learns from: its weights; None without such a phase.

    Raises:
        InputError: the weights cannot be read.
    """
    if not any(phase.kind == "distill" for phase in recipe.phases):
        return None
    return load_weights(recipe.weights).requires_grad_(False)


def _with_new_trunk(model: SAM2Base, start: SAM2Base) -> dict[str, Tensor]:
    """Return the state of ``start``; if the trunks are of another class, with the trunk of ``model`` in its place."""
    state: dict[str, Tensor] = start.state_dict()
    if type(model.image_encoder.trunk) is type(start.image_encoder.trunk):
        return state
    kept = {name: value for name, value in state.items() if not name.startswith(_TRUNK)}
    return kept | {name: value for name, value in model.state_dict().items() if name.startswith(_TRUNK)}


def _adopt_context(model: SAM2Base, of_weights: SliceContext, recipe: TrainingRecipe) -> None:
    """Let a model see the neighbouring slices that its weights were trained with."""
    if of_weights != SliceContext() and recipe.context not in (SliceContext(), of_weights):
        raise InputError(
            f"weights {recipe.weights!r} were trained with {of_weights.header()}, the recipe asks for "
            f"{recipe.context.header()}; leave neighbours and depth_adapter out"
        )
    add_context(model, of_weights)
