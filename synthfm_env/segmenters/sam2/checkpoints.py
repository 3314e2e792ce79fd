"""Loading weights: strictly, and without ever running code from a file."""

from importlib.resources import files
from pathlib import Path

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from sam2.sam2_video_predictor import SAM2VideoPredictor
from torch import Tensor

from synthfm_env.errors import InputError
from synthfm_env.printable import printable
from synthfm_env.segmenters.checkpoint_files import read_checkpoint
from synthfm_env.segmenters.sam2.architecture import MOST_PIXELS, Architecture, build_model
from synthfm_env.segmenters.sam2.official_checkpoints import OFFICIAL, build_official, official_checkpoint
from synthfm_env.segmenters.weights_file import fill, read_safetensors

EMBEDDED = {"synthfm3d-nano": "synthfm3d-nano.safetensors"}
_TRUNKS = {(96, 12): "tiny", (96, 16): "small", (112, 24): "base-plus", (144, 48): "large"}  # width, blocks


def weights_path(name_or_path: str) -> Path:
    """Return the file of an embedded model, or the path itself."""
    if name_or_path in EMBEDDED:
        return Path(str(files("synthfm_env") / "weights" / EMBEDDED[name_or_path]))
    return Path(name_or_path)


def load_weights(name_or_path: str) -> SAM2VideoPredictor:
    """Build a SAM 2 and fill it, strictly.

    Args:
        name_or_path: the embedded model (``"synthfm3d-nano"``); an official one (``"sam2.1-hiera-tiny"``); or a
            file: a ``.safetensors`` that ``synthfm train`` wrote, with its architecture in the header, or an
            official checkpoint (``.pt`` as Meta publishes it, or its tensors as ``.safetensors``).

    Returns:
        The model in evaluation mode, float32, on the CPU.

    Raises:
        InputError: the file is missing or damaged, holds more than tensors, or its tensors are not those of the
            model; each missing, unexpected or mis-shaped one is named.
    """
    if name_or_path in OFFICIAL:
        return _official(official_checkpoint(name_or_path), name_or_path)
    path = weights_path(name_or_path)
    if not path.is_file():
        raise InputError(
            f"weights {str(path)!r} do not exist; give a .safetensors file that `synthfm train` wrote, "
            "or an official SAM 2 checkpoint"
        )
    if path.suffix == ".safetensors":
        header, state = read_safetensors(path)
        if "architecture" in header:
            return fill(_build(header["architecture"], path), state, path)
        if header.get("official") in OFFICIAL:
            return fill(build_official(header["official"], _image_size(header, path)), state, path)
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
    """Tell whether weights were made by ``synthfm train``: by the architecture in the file's header."""
    path = weights_path(name_or_path)
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    try:
        with safe_open(path, framework="pt") as file:
            return "architecture" in (file.metadata() or {})
    except SafetensorError:
        return False  # load_weights says what is wrong with it


def _build(architecture: str, path: Path) -> SAM2VideoPredictor:
    try:
        return build_model(Architecture.from_json(architecture))
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            f"weights {str(path)!r} name no architecture of ours: {first['loc']}: {first['msg']}"
        ) from None


def _official(path: Path, name: str | None) -> SAM2VideoPredictor:
    state = read_safetensors(path)[1] if path.suffix == ".safetensors" else read_checkpoint(path)
    if name is None:
        name = _guess(path, state)
    return fill(build_official(name), state, path)


def _guess(path: Path, state: dict[str, Tensor]) -> str:
    """Tell which official model a checkpoint is of, by the width and depth of its trunk and what 2.1 added."""
    width = state.get("image_encoder.trunk.patch_embed.proj.weight")
    depth = len({key.split(".")[3] for key in state if key.startswith("image_encoder.trunk.blocks.")})
    size = None if width is None else _TRUNKS.get((width.shape[0], depth))
    if size is None and "stem.weight" in state:
        raise InputError(
            f"weights {str(path)!r} are a refiner's; give them beside a segmenter: "
            f'make_segmenter("synthfm3d-nano", refine={str(path)!r})'
        )
    if size is None:
        raise InputError(
            f"weights {str(path)!r} are of no official SAM 2, and name no architecture in their header; "
            "`synthfm train` writes one"
        )
    return f"sam2.1-hiera-{size}" if "no_obj_embed_spatial" in state else f"sam2-hiera-{size}"
