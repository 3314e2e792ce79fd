"""Weights files: read without running code, filled in strictly."""

from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from synthfm_env.errors import InputError

_Model = TypeVar("_Model", bound=nn.Module)


def read_safetensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Return a file's header and its tensors in float32; raises InputError where it is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            state = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118 - not a mapping
            return file.metadata() or {}, state
    except SafetensorError as error:
        raise InputError(f"weights {str(path)!r} are damaged or no safetensors file: {error}") from None


def fill(model: _Model, state: dict[str, Tensor], path: Path) -> _Model:
    """Load ``state`` into ``model`` and return it.

    Raises:
        InputError: names and shapes are not exactly the model's; names the first of each kind and ``path``.
    """
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in state.items()}
    if expected != found:
        raise InputError(f"weights {str(path)!r} do not fit the model: {_differences(expected, found)}")
    model.load_state_dict(state)
    return model


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
