"""Writes checkpoints and weights atomically, and reads checkpoints."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from synthfm_env.errors import InputError
from synthfm_env.files import atomic_write
from synthfm_env.segmenters.sam2 import Architecture


def save_checkpoint(state: dict[str, Any], path: Path) -> None:
    """Write ``state`` (tensors and plain data) so that ``path`` always holds a whole checkpoint."""
    with atomic_write(path) as unfinished:
        torch.save(state, unfinished)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what ``save_checkpoint`` wrote.

    Raises:
        InputError: no such file, or not one of ours.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"no checkpoint {str(path)!r} to resume from; start without --resume") from None
    except Exception as error:
        raise InputError(f"checkpoint {str(path)!r} cannot be read: {error}") from None
    return state


def save_weights(
    state: dict[str, torch.Tensor], architecture: Architecture | str, size: int, path: Path, notes: dict[str, str]
) -> None:
    """Write half-precision weights with their architecture in the header, for ``make_segmenter``.

    Args:
        state: the model's tensors.
        architecture: its sizes, or the name of an official model.
        size: pixels along each side of the frames that it was trained on last.
        path: where to, a ``.safetensors``.
        notes: more for the header.
    """
    if isinstance(architecture, str):
        header = {"official": architecture, "image_size": str(size)}
    else:
        header = {"architecture": replace(architecture, image_size=size).to_json()}
    write_tensors(state, path, {**header, **notes})


def write_tensors(state: dict[str, torch.Tensor], path: Path, header: dict[str, str]) -> None:
    """Write tensors in half precision, so that ``path`` always holds a whole file."""
    half = {name: tensor.detach().half().contiguous().cpu() for name, tensor in state.items()}
    with atomic_write(path) as unfinished:
        save_file(half, unfinished, metadata=header)
