"""Defines a residual U-Net with early prompting: clicks are input channels with the image."""

import json
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthfm_env.segmenters.cpu_arithmetic import conv3d
from synthfm_env.segmenters.volume_network.network_input import COARSE_CHANNELS, FINE_CHANNELS, NetworkInput

_GROUPS = 8
_FULL_WIDTH = 8  # channels at the full resolution, where a convolution of more would cost most of the time
_QUALITY_WIDTH = 32


@dataclass(frozen=True, slots=True)
class NetworkArchitecture:
    """Sizes of a volume network.

    Attributes:
        dimensions: 3 for volumes; 2 for images, whose kernels are flat along z.
        widths: channels at 1/2, 1/4, 1/8 ... of the grid; multiples of 8.
    """

    dimensions: Literal[2, 3] = 3
    widths: tuple[int, ...] = (32, 64, 128)

    @property
    def stride(self) -> tuple[int, int, int]:
        """Voxels that one voxel of the coarsest level covers; sides of a grid are multiples of it."""
        side = 2 ** len(self.widths)
        return (side if self.dimensions == 3 else 1, side, side)

    def to_json(self) -> str:
        """Return the sizes as they are written into a header of weights."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "NetworkArchitecture":
        """Read what ``to_json`` wrote; raises ValueError, TypeError or KeyError if it is something else."""
        fields = json.loads(text)
        return cls(fields["dimensions"], tuple(int(width) for width in fields["widths"]))


class NetworkOutput(NamedTuple):
    """An answer for each member of a batch.

    Attributes:
        logits: (B, d, h, w), above 0 inside.
        quality: (B,), the predicted Dice of ``logits > 0`` with the whole structure, 0 to 1.
    """

    logits: Tensor
    quality: Tensor


class _Convolution(nn.Module):
    """A convolution that keeps its kernel as a matrix, as ``torch.optim.Muon`` takes it."""

    def __init__(self, inputs: int, outputs: int, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> None:
        super().__init__()
        self._shape, self._stride = (outputs, inputs, *kernel), stride
        z, y, x = ((k - 1) // 2 if s == 1 else 0 for k, s in zip(kernel, stride, strict=True))
        self._padding = z, y, x
        self.weight = nn.Parameter(torch.empty(outputs, inputs * kernel[0] * kernel[1] * kernel[2]))
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.view(self._shape)
        if x.device.type == "cpu" and torch.is_grad_enabled() and self._is_wider_than(x):
            # oneDNN's bfloat16 convolutions give wrong gradients on fewer voxels than the kernel has (torch 2.13).
            with torch.autocast("cpu", enabled=False):
                return conv3d(x.float(), weight, self.bias, self._stride, self._padding)
        return conv3d(x, weight, self.bias, self._stride, self._padding)

    def _is_wider_than(self, x: Tensor) -> bool:
        return any(n < k for n, k in zip(x.shape[2:], self._shape[2:], strict=True))


class _Upsampling(nn.Module):
    """A transposed convolution whose kernel is its stride; the kernel is kept as a matrix."""

    def __init__(self, inputs: int, outputs: int, stride: tuple[int, int, int]) -> None:
        super().__init__()
        self._shape, self._stride = (inputs, outputs, *stride), stride
        self.weight = nn.Parameter(torch.empty(inputs, outputs * stride[0] * stride[1] * stride[2]))
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.normal_(self.weight, std=inputs**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv_transpose3d(x, self.weight.view(self._shape), self.bias, self._stride)


class _Residual(nn.Module):
    def __init__(self, width: int, kernel: tuple[int, int, int]) -> None:
        super().__init__()
        # GroupNorm: its statistics come from one member of the batch alone.
        self.norm = nn.GroupNorm(_GROUPS, width)
        self.first = _Convolution(width, width, kernel, (1, 1, 1))
        self.second = _Convolution(width, width, kernel, (1, 1, 1))
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.second(F.relu(self.first(F.relu(self.norm(x)))))
        return x + added


class VolumeNetwork(nn.Module):
    """A U-Net from a crop's image, clicks and previous logits to new logits, and a prediction of their Dice.

    The first convolution halves the resolution, so that all further ones work on an eighth of the voxels; geodesic
    channels enter there. Residual blocks of two convolutions and one GroupNorm stand at each level, with additive
    skips. The last layer doubles the resolution and mixes in the full-resolution inputs voxel by voxel. The quality
    head reads features that are detached, so it cannot disturb the masks.

    Source: early prompting as in nnInteractive (Isensee et al., 2025) and RITM (Sofiiuk et al., 2022); a predicted
    quality as in SAM (Kirillov et al., 2023). The sizes are this project's.

    Example:
        >>> network = VolumeNetwork(NetworkArchitecture(3, (8, 16, 16)))
        >>> from synthfm_env.segmenters.volume_network.network_input import NetworkInput
        >>> given = NetworkInput(torch.zeros(2, 7, 16, 24, 24), torch.zeros(2, 4, 8, 12, 12))
        >>> tuple(network(given).logits.shape)
        (2, 16, 24, 24)
    """

    def __init__(self, architecture: NetworkArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        flat = architecture.dimensions == 2
        kernel, half = ((1, 3, 3), (1, 2, 2)) if flat else ((3, 3, 3), (2, 2, 2))
        one = (1, 1, 1)
        widths = architecture.widths
        self.stem = _Convolution(FINE_CHANNELS, widths[0], half, half)
        self.coarse = _Convolution(COARSE_CHANNELS, widths[0], one, one)
        self.encode = nn.ModuleList(_Residual(width, kernel) for width in widths)
        self.down = nn.ModuleList(_Convolution(fine, coarse, half, half) for fine, coarse in pairwise(widths))
        self.bottom = _Residual(widths[-1], kernel)
        self.up = nn.ModuleList(_Upsampling(coarse, fine, half) for fine, coarse in pairwise(widths))
        self.decode = nn.ModuleList(_Residual(width, kernel) for width in widths[:-1])
        self.full = _Upsampling(widths[0], _FULL_WIDTH, half)
        self.inputs = _Convolution(FINE_CHANNELS, _FULL_WIDTH, one, one)
        self.head = nn.Conv3d(_FULL_WIDTH, 1, 1)
        self.quality = nn.Sequential(
            nn.Linear(widths[-1] + 2 * widths[0] + 3, _QUALITY_WIDTH), nn.ReLU(), nn.Linear(_QUALITY_WIDTH, 1)
        )

    def forward(self, given: NetworkInput) -> NetworkOutput:
        """Answer a batch of crops; sides of the grid are multiples of ``architecture.stride``."""
        fine = given.fine.contiguous(memory_format=torch.channels_last_3d)
        x = self.stem(fine) + self.coarse(given.coarse.contiguous(memory_format=torch.channels_last_3d))
        skips = []
        for level, encode in enumerate(self.encode):
            x = encode(self.down[level - 1](x) if level else x)
            skips.append(x)
        deep = x = self.bottom(x)
        for level in reversed(range(len(self.up))):
            x = self.decode[level](self.up[level](x) + skips[level])
        logits = self.head(F.relu(self.full(x) + self.inputs(fine)))[:, 0].float()
        return NetworkOutput(logits, self._predict_quality(deep.detach(), x.detach(), logits.detach()))

    def _predict_quality(self, deep: Tensor, last: Tensor, logits: Tensor) -> Tensor:
        """Predict Dice from the mean of deep features, and of the last ones inside and around the mask."""
        deep, last = deep.float(), last.float()
        inside = logits.sigmoid()
        depth, height, width = last.shape[2:]
        weight = F.adaptive_avg_pool3d(inside[:, None], (depth, height, width))
        around = weight * (1 - weight)
        means = [(last * part).sum((2, 3, 4)) / (part.sum((2, 3, 4)) + 1e-3) for part in (weight, around)]
        scalars = torch.stack(
            (inside.mean((1, 2, 3)), _touching(inside), 4 * (inside * (1 - inside)).mean((1, 2, 3))), 1
        )
        return self.quality(torch.cat((deep.mean((2, 3, 4)), *means, scalars), 1))[:, 0].sigmoid()


def _touching(inside: Tensor) -> Tensor:
    """Return the highest mean probability of any side of the grid, (B,)."""
    sides = [inside.select(axis, end).mean((1, 2)) for axis in (1, 2, 3) if inside.shape[axis] > 1 for end in (0, -1)]
    return torch.stack(sides, 1).amax(1)
