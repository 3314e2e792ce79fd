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
from synthfm_env.segmenters.weights_file import check_finite


def read_checkpoint(path: Path, key: str = "model", allowed: Sequence[Any] = ()) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint as its authors publish it.

    Args:
        path: the file.
        key: entry of the tensors, if the file holds more than them.
        allowed: harmless classes and functions that the file may name in addition to tensors, as for
            ``torch.serialization.safe_globals``.

    Raises:
        InputError: the file is damaged, holds more than tensors, is larger than the memory limit, or holds NaN.
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
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"checkpoint {str(path)!r} holds no state dict: expected tensors by name under {key!r}")
    check_finite(state, path)
    return state


def _unpacked_bytes(path: Path) -> int:
    """Return the bytes of a checkpoint in memory: a zip archive, or in the old form a pickle."""
    try:
        with zipfile.ZipFile(path) as archive:
            return sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError):
        return path.stat().st_size
