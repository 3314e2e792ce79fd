"""Loads SAM 2's weights: packaged ones, those that ``synthfm train`` wrote, and Meta's checkpoints.

Loading is strict, and runs no code from a file.
"""

import os
from importlib.resources import files
from pathlib import Path

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from sam2.build_sam import HF_MODEL_ID_TO_FILENAMES, build_sam2_video_predictor
from sam2.sam2_video_predictor import SAM2VideoPredictor
from torch import Tensor

from synthfm_env.errors import InputError
from synthfm_env.printable import printable
from synthfm_env.segmenters.checkpoint_files import read_checkpoint
from synthfm_env.segmenters.placed_weights import weights_folder
from synthfm_env.segmenters.sam2.architecture import Architecture, build_model
from synthfm_env.segmenters.sam2.options import MOST_PIXELS
from synthfm_env.segmenters.sam2.slice_context import SliceContext, add_context
from synthfm_env.segmenters.weights_file import fill, read_safetensors

# "sam2.1-hiera-tiny" -> ("configs/sam2.1/sam2.1_hiera_t.yaml", "sam2.1_hiera_tiny.pt"), for all eight.
OFFICIAL = {model_id.removeprefix("facebook/"): names for model_id, names in HF_MODEL_ID_TO_FILENAMES.items()}
EMBEDDED = {name: f"{name}.safetensors" for name in ("synthfm3d-nano", "synthfm2d-small")}
_TRUNKS = {(96, 12): "tiny", (96, 16): "small", (112, 24): "base-plus", (144, 48): "large"}  # width, blocks


def weights_path(name_or_path: str) -> Path:
    """Return the file of an embedded model, or the path itself."""
    if name_or_path in EMBEDDED:
        return Path(str(files("synthfm_env") / "weights" / EMBEDDED[name_or_path]))
    return Path(name_or_path)


def load_weights(name_or_path: str) -> SAM2VideoPredictor:
    """Build a SAM 2 and load its weights.

    Args:
        name_or_path: an embedded model such as ``"synthfm3d-nano"``; an official one (``"sam2.1-hiera-tiny"``); or a
            file: a ``.safetensors`` that ``synthfm train`` wrote, with its architecture in the header, or an
            official checkpoint (``.pt`` as Meta publishes it, or its tensors as ``.safetensors``).

    Returns:
        The model in evaluation mode, float32, on the CPU.

    Raises:
        InputError: the file is missing or damaged, contains more than tensors, or its tensors do not fit the model; the
            message lists missing, unexpected and mis-shaped ones.
    """
    if name_or_path in OFFICIAL:
        return _official(official_checkpoint(name_or_path), name_or_path)
    path = weights_path(name_or_path)
    if not os.path.isfile(path):
        raise InputError(
            f"weights {str(path)!r} do not exist; give a .safetensors file that `synthfm train` wrote, "
            "or an official SAM 2 checkpoint"
        )
    if path.suffix == ".safetensors":
        header, state = read_safetensors(path)
        if "architecture" in header:
            return fill(_with_context(_build(header["architecture"], path), header), state, path)
        if header.get("official") in OFFICIAL:
            official = build_official(header["official"], _image_size(header, path))
            return fill(_with_context(official, header), state, path)
    return _official(path, None)


def _image_size(header: dict[str, str], path: Path) -> int:
    text = header.get("image_size", "")
    if not text.isdecimal() or int(text) % 32 or not 32 <= int(text) <= MOST_PIXELS:
        raise InputError(
            f"weights {str(path)!r}: image_size {printable(text)!r} in the header; expected a multiple of 32 from 32 "
            f"to {MOST_PIXELS}"
        )
    return int(text)


def trained_here(name_or_path: str) -> bool:
    """Return True if ``synthfm train`` wrote the file: its header names an architecture or an official model."""
    path = weights_path(name_or_path)
    if path.suffix != ".safetensors" or not os.path.isfile(path):
        return False
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            return "architecture" in header or header.get("official") in OFFICIAL
    except SafetensorError:
        return False  # load_weights reports the fault


def _with_context(model: SAM2VideoPredictor, header: dict[str, str]) -> SAM2VideoPredictor:
    add_context(model, SliceContext.from_header(header))
    return model.eval()


def _build(architecture: str, path: Path) -> SAM2VideoPredictor:
    try:
        return build_model(Architecture.from_json(architecture))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        reason = first["msg"].removeprefix("Value error, ")
        raise InputError(
            f"weights {str(path)!r} name no architecture of ours: {where + ': ' if where else ''}{reason}"
        ) from None


def _official(path: Path, name: str | None) -> SAM2VideoPredictor:
    state = read_safetensors(path)[1] if path.suffix == ".safetensors" else read_checkpoint(path)
    if name is None:
        name = _guess(path, state)
    return fill(build_official(name), state, path)


def _guess(path: Path, state: dict[str, Tensor]) -> str:
    """Return the name of a checkpoint's official model, from its trunk's width and depth and a tensor of 2.1."""
    width = state.get("image_encoder.trunk.patch_embed.proj.weight")
    depth = len({key.split(".")[3] for key in state if key.startswith("image_encoder.trunk.blocks.")})
    size = None if width is None or width.ndim == 0 else _TRUNKS.get((width.shape[0], depth))
    if size is None:
        raise InputError(
            f"weights {str(path)!r} are of no official SAM 2, and name no architecture in their header; "
            "`synthfm train` writes one"
        )
    return f"sam2.1-hiera-{size}" if "no_obj_embed_spatial" in state else f"sam2-hiera-{size}"


def build_official(name: str, image_size: int = 1024) -> SAM2VideoPredictor:
    """Return an official model with random weights, in evaluation mode, on the CPU.

    Post-processing (hole filling, dynamic choice of masks) is off, because it differs between machines with and without
    the package's CUDA kernel. ``add_all_frames_to_correct_as_cond`` is on, as for all models of this package.
    """
    config, _ = OFFICIAL[name]
    model: SAM2VideoPredictor = build_sam2_video_predictor(
        config,
        device="cpu",
        apply_postprocessing=False,
        hydra_overrides_extra=[
            "++model.add_all_frames_to_correct_as_cond=true",
            f"++model.image_size={image_size}",
        ],
    )
    return model


def official_checkpoint(name: str) -> Path:
    """Return the checkpoint of an official model: a file in ``weights_folder()``, else one from the hub.

    Raises:
        InputError: there is no file, and the hub cannot be reached or its client (extra ``hub``) is not installed; the
            message names the file and its place.
    """
    _, filename = OFFICIAL[name]
    placed = weights_folder() / filename
    if os.path.isfile(placed):
        return placed
    ask = f"place {filename} at {placed}, or give the path of a checkpoint instead of its name"
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError:
        raise InputError(
            f"the weights of {name!r} are not here: install the hub's client "
            f'(pip install "synthfm_env[hub]"), or {ask}'
        ) from None
    try:
        return Path(hf_hub_download(repo_id=f"facebook/{name}", filename=filename))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"the weights of {name!r} cannot be fetched ({reason}): {ask}") from None
