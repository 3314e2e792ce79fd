"""Read checkpoints that ``torch.save`` wrote, without running code from them."""

from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from synthfm_env.errors import InputError


def read_checkpoint(path: Path, key: str = "model", allowed: Sequence[Any] = ()) -> dict[str, Tensor]:
    """Return the tensors of a file that ``torch.save`` wrote.

    Args:
        path: the file.
        key: where the tensors are, if the file holds more than them.
        allowed: harmless classes and functions beside tensors that the file may name, as for
            ``torch.serialization.safe_globals``.

    Raises:
        InputError: it is damaged, names anything else, or has no tensors by name.
    """
    try:
        with torch.serialization.safe_globals(list(allowed)):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, EOFError, OSError, RuntimeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"checkpoint {str(path)!r} is damaged, or holds more than tensors: {reason}") from None
    state = content.get(key, content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"checkpoint {str(path)!r} holds no state dict: expected tensors by name under {key!r}")
    return state
