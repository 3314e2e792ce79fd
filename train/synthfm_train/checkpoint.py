"""Writes checkpoints and weights atomically, and reads checkpoints."""

import errno
import os
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from synthfm_env.errors import InputError
from synthfm_env.files import atomic_write
from synthfm_env.segmenters.sam2 import Architecture


def save_checkpoint(state: dict[str, Any], path: Path) -> None:
    """Write ``state`` (tensors and plain data) so that ``path`` always holds a whole checkpoint."""
    try:
        with atomic_write(path) as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
    except RuntimeError as error:  # torch raises this for any error of the file
        raise OSError(errno.EIO, f"no complete checkpoint could be written: {error}", str(path)) from error
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what ``save_checkpoint`` wrote.

    Raises:
        InputError: no such file, or not one of ours.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the error below tells what is wrong
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"no checkpoint {str(path)!r} to resume from; start without --resume") from None
    except (
        Exception
    ):  # a broken file raises errors of many types, and torch's message names an option that users do not have
        raise InputError(
            f"checkpoint {str(path)!r} is damaged, or holds more than tensors and plain data; nothing of it was run: "
            "start again in a new folder"
        ) from None
    if not isinstance(state, dict):
        raise InputError(f"checkpoint {str(path)!r} holds {type(state).__name__}, not a training's state")
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
    with atomic_write(path) as file:
        file.write(save(half, metadata=header))
