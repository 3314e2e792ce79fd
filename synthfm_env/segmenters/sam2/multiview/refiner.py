"""Defines the refiner: a small 3D U-Net that corrects the combined logits of a crop."""

import os
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthfm_env.errors import InputError
from synthfm_env.segmenters.cpu_arithmetic import conv3d
from synthfm_env.segmenters.sam2.multiview.refiner_input import CHANNELS, RefinerInput
from synthfm_env.segmenters.weights_file import fill, read_safetensors

_WIDTHS = (16, 32, 64)  # channels at full, half and quarter resolution; CPUs convolve multiples of 16 fast
# Inputs are padded to sides of a multiple of 4, at least 12. With fewer than three voxels at quarter resolution the
# gradients of oneDNN's bfloat16 convolutions are wrong.
_MULTIPLE, _LEAST = 4, 12


class Refines(Protocol):
    """Interface of a ``Refiner`` and of a recorder around one."""

    def refine(self, inputs: RefinerInput) -> Tensor:
        """Return final logits, float32 (d, h, w), on the CPU."""


class _Conv3d(nn.Conv3d):
    """A convolution that predicts with oneDNN on a CPU, whatever its shape."""

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        stride, padding = (int(self.stride[0]),) * 3, (int(self.padding[0]),) * 3
        return conv3d(x, weight, bias, stride, padding)


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = (_Conv3d(width, width, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.second(F.relu(self.first(x)))
        return F.relu(x + added)


class Refiner(nn.Module):
    """A 3D U-Net of three resolutions and 0.6 million parameters that adds a correction to the combined logits.

    Its input is a crop on a grid with at most twice as many voxels along a side as a mask of SAM 2 has pixels. On this
    grid it can weigh the three views against each other, against the click prior, and against edges of the image that
    are too fine for SAM 2's masks.
    """

    def __init__(self) -> None:
        super().__init__()
        pairs = list(pairwise(_WIDTHS))
        self.stem = _Conv3d(CHANNELS, _WIDTHS[0], 3, padding=1)
        self.down = nn.ModuleList(_Conv3d(fine, coarse, 2, stride=2) for fine, coarse in pairs)
        self.encode = nn.ModuleList(_Residual(width) for width in _WIDTHS)
        self.bottom = _Residual(_WIDTHS[-1])
        self.up = nn.ModuleList(nn.ConvTranspose3d(coarse, fine, 2, stride=2) for fine, coarse in pairs)
        self.decode = nn.ModuleList(_Residual(width) for width in _WIDTHS[:-1])
        self.head = _Conv3d(_WIDTHS[0], 1, 1)
        for parameter in self.head.parameters():
            nn.init.zeros_(parameter)  # the untrained network corrects nothing
        for module in self.modules():
            if isinstance(module, _Conv3d):
                module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last_3d)

    def forward(self, channels: Tensor) -> Tensor:
        """Return the correction to add to the logits.

        Args:
            channels: float32 (B, CHANNELS, d, h, w), any sides.

        Returns:
            float32 (B, d, h, w).
        """
        # Pad at the ends, by repeating the border.
        size = channels.shape[2:]
        padding = [end for n in reversed(size) for end in (0, max(_LEAST - n, -n % _MULTIPLE))]
        x = F.relu(self.stem(F.pad(channels, padding, mode="replicate")))
        # Encoder, which keeps the features of each resolution.
        fine = []
        for i, encode in enumerate(self.encode):
            x = encode(F.relu(self.down[i - 1](x)) if i else x)
            fine.append(x)
        # Bottom and decoder, which adds them.
        x = self.bottom(x)
        for i in reversed(range(len(self.up))):
            x = self.decode[i](F.relu(self.up[i](x) + fine[i]))
        added: Tensor = self.head(x)[:, 0, : size[0], : size[1], : size[2]]
        return 4 * added

    def refine(self, inputs: RefinerInput) -> Tensor:
        """Return the input's logits with the correction near the object; float32 (d, h, w), on the CPU."""
        logits, part = inputs.logits, inputs.object_extent()
        channels = inputs.channels()[:, *part][None].to(self.head.weight.device)
        logits[part] += self(channels.contiguous(memory_format=torch.channels_last_3d))[0].float().cpu()
        return logits


def load_refiner(path: Path | None = None) -> Refiner:
    """Return the packaged refiner, or one that ``synthfm train`` wrote, in evaluation mode, on the CPU.

    Raises:
        InputError: the file is missing or damaged, or contains another network.
    """
    if path is None:
        path = Path(str(files("synthfm_env") / "weights" / "synthfm3d-refiner.safetensors"))
    if not os.path.isfile(path):
        raise InputError(
            f"weights {str(path)!r} do not exist; give weights that `synthfm train synthfm3d-refiner` wrote"
        )
    return fill(Refiner(), read_safetensors(path)[1], path).eval()
