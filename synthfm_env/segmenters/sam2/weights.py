"""Loading weights: strictly, and without ever running code from a file."""

from importlib.resources import files
from pathlib import Path

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from sam2.sam2_video_predictor import SAM2VideoPredictor

from synthfm_env.errors import InputError
from synthfm_env.segmenters.sam2.model import Architecture, build_model

EMBEDDED = {"synthfm3d-nano": "synthfm3d-nano.safetensors"}


def weights_path(name_or_path: str) -> Path:
    """Return the file of an embedded model, or the path itself."""
    if name_or_path in EMBEDDED:
        return Path(str(files("synthfm_env") / "weights" / EMBEDDED[name_or_path]))
    return Path(name_or_path)


def load_weights(name_or_path: str) -> tuple[SAM2VideoPredictor, Architecture]:
    """Build the model that a ``.safetensors`` file describes in its header, and fill it.

    Args:
        name_or_path: an embedded model (``"synthfm3d-nano"``) or a file that ``synthfm train`` wrote.

    Returns:
        The model in evaluation mode, float32, on the CPU, and its sizes.

    Raises:
        InputError: the file is missing, damaged, has no architecture in its header, or its tensors are not those
            of that architecture; each missing, unexpected or mis-shaped one is named.
    """
    path = weights_path(name_or_path)
    if not path.is_file():
        raise InputError(f"weights {str(path)!r} do not exist; give a .safetensors file that `synthfm train` wrote")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            state = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118 - not a mapping
        architecture = Architecture.from_json(header["architecture"])
    except SafetensorError as error:
        raise InputError(f"weights {str(path)!r} are damaged or no safetensors file: {error}") from None
    except (KeyError, ValidationError):
        raise InputError(
            f"weights {str(path)!r} name no architecture in their header; `synthfm train` writes one"
        ) from None
    model = build_model(architecture)
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in state.items()}
    if expected != found:
        raise InputError(f"weights {str(path)!r} do not fit their architecture: {_differences(expected, found)}")
    model.load_state_dict(state)
    return model, architecture


def _differences(expected: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]]) -> str:
    missing = sorted(expected.keys() - found.keys())
    unexpected = sorted(found.keys() - expected.keys())
    shapes = [
        f"{k} {found[k]} for {expected[k]}" for k in sorted(expected.keys() & found.keys()) if expected[k] != found[k]
    ]
    parts = [
        f"{len(names)} {kind} ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})"
        for kind, names in (("missing", missing), ("unexpected", unexpected), ("mis-shaped", shapes))
        if names
    ]
    return "; ".join(parts)
