"""Turns slices into the image encoder's input: square, normalised RGB frames."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

# Mean and deviation of ImageNet, with which SAM 2 was trained. Weights trained here use the same.
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


def normalise(frames: Tensor) -> Tensor:
    """Turn 8-bit frames into the encoder's input.

    Args:
        frames: uint8, or float from 0 to 255, (..., 1, S, S) grey or (..., 3, S, S) RGB.

    Returns:
        float32 (..., 3, S, S), each channel scaled to [0, 1] and normalised by ImageNet's mean and deviation.
    """
    mean = torch.tensor(_MEAN, device=frames.device).view(3, 1, 1) * 255
    std = torch.tensor(_STD, device=frames.device).view(3, 1, 1) * 255
    return (frames.float() - mean) / std


def square_frames(image: NDArray[np.uint8], size: int) -> Tensor:
    """Resize every slice of an 8-bit image to ``size`` x ``size`` (bilinear, antialiased), as SAM 2 does.

    Args:
        image: uint8 (D, H, W) or (D, H, W, 3).
        size: pixels along each side.

    Returns:
        float32 (D, 3, size, size), normalised.
    """
    slices = torch.from_numpy(np.array(image))  # a copy, because the image may be read-only
    slices = slices[:, None] if image.ndim == 3 else slices.permute(0, 3, 1, 2)
    resized = F.interpolate(slices.float(), size=(size, size), mode="bilinear", antialias=True).clamp(0, 255)
    return normalise(resized)
