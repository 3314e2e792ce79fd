"""Reads checkpoints that ``torch.save`` wrote, without running code from them."""

import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from synthfm_env.errors import InputError
from synthfm_env.memory_limit import check_memory
from synthfm_env.printable import printable
from synthfm_env.segmenters.weights_file import check_finite

# Others cannot be checked for NaN, or mean something else in a model of real weights.
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_WHOLE = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def read_checkpoint(path: Path, key: str = "model", allowed: Sequence[Any] = ()) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint as its authors publish it.

    Args:
        path: the file.
        key: entry of the tensors, if the file holds more than them.
        allowed: harmless classes and functions that the file may name in addition to tensors, as for
            ``torch.serialization.safe_globals``.

    Raises:
        InputError: the file is damaged, holds more than tensors by name, is larger than the memory limit, holds NaN,
            or tensors that are sparse, quantised, without values or of 8-bit floats or complex numbers.
    """
    check_memory(_unpacked_bytes(path), f"checkpoint {str(path)!r}")
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(list(allowed)):
            warnings.simplefilter("ignore")  # torch warns of what it then refuses
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # torch raises many types for a broken file, and its message names an option that we do not have
        raise InputError(
            f"checkpoint {str(path)!r} is damaged, or holds more than tensors; nothing of it was run: "
            "take the file that its authors publish, or its tensors as .safetensors"
        ) from None
    state = content.get(key, content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise InputError(f"checkpoint {str(path)!r} holds no state dict: expected tensors by name under {key!r}")
    for name, value in state.items():
        if value.layout is not torch.strided or value.device.type != "cpu" or value.dtype not in _FLOATS + _WHOLE:
            raise InputError(
                f"checkpoint {str(path)!r}: {printable(name)} is of {value.dtype}, {value.layout} on {value.device}; "
                "expected plain numbers, as of torch.float32"
            )
    # Strides of 0 give a small file tensors of any size.
    check_memory(sum(value.nbytes for value in state.values()), f"checkpoint {str(path)!r}, its tensors,")
    check_finite(state, path)
    return state


def _unpacked_bytes(path: Path) -> int:
    """Return the bytes of a checkpoint in memory: a zip archive, or in the old form a pickle."""
    try:
        with zipfile.ZipFile(path) as archive:
            return sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError):
        return path.stat().st_size
