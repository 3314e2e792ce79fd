"""Reads weights files without running code, and loads them into models strictly."""

from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from synthfm_env.errors import InputError
from synthfm_env.memory_limit import check_memory
from synthfm_env.printable import printable

_Model = TypeVar("_Model", bound=nn.Module)

_MOST_HEADER = 16 << 20  # bytes


def read_safetensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Return a file's header and its tensors in float32.

    Raises:
        InputError: the file is damaged, is larger than the memory limit, or holds NaN or infinite weights.
    """
    check_size(path)
    try:
        with safe_open(path, framework="pt") as file:
            state = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118 - not a mapping
            header = file.metadata() or {}
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"weights {str(path)!r} are damaged or no safetensors file: {printable(error)}") from None
    check_finite(state, path)
    return header, state


def check_size(path: Path) -> None:
    """Refuse a safetensors file that is too large, or whose header is, before it is read.

    Raises:
        InputError: the header is longer than 16 MiB.
        MemoryLimitError: the tensors need more memory than the limit; see ``memory_limit``.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
    except OSError as error:
        raise InputError(f"weights {str(path)!r} cannot be read ({error.strerror})") from None
    if length > _MOST_HEADER:
        raise InputError(
            f"weights {str(path)!r} are damaged or no safetensors file: a header of {length} bytes, expected at most "
            f"{_MOST_HEADER}"
        )
    check_memory(2 * size, f"weights {str(path)!r} of {size} bytes, as float32,")


def check_finite(state: dict[str, Tensor], path: Path) -> None:
    """Raise InputError if a tensor holds NaN or infinite values."""
    for name, tensor in state.items():
        if not bool(tensor.isfinite().all()):
            raise InputError(
                f"weights {str(path)!r}: {printable(name)} holds NaN or infinite values; train again or take others"
            )


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
    """Name the tensors that are missing, unexpected or of another shape; empty if none is."""
    missing = sorted(expected.keys() - found.keys())
    unexpected = sorted(found.keys() - expected.keys())
    shapes = [
        f"{k} {found[k]} for {expected[k]}" for k in sorted(expected.keys() & found.keys()) if expected[k] != found[k]
    ]
    parts = [
        f"{len(names)} {kind} ({', '.join(map(printable, names[:5]))}{', ...' if len(names) > 5 else ''})"
        for kind, names in (("missing", missing), ("unexpected", unexpected), ("mis-shaped", shapes))
        if names
    ]
    return "; ".join(parts)
