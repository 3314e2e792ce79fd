"""Chooses the device that a model runs on."""

import torch

from synthfm_env.errors import InputError


def pick_device(device: str) -> torch.device:
    """Return the device for ``"auto"`` or a torch device name.

    Raises:
        InputError: torch knows no such device, or has none of that kind here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        picked = torch.device(device)
    except RuntimeError as error:
        raise InputError(f"device {device!r} is unknown to torch: {error}") from None
    if picked.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device {device!r}: torch finds no CUDA device here; use device='cpu' or 'auto'")
    return picked
