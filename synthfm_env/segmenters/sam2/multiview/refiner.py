"""A small 3D network that corrects the logits of a crop from the views, the click prior and the image."""

from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthfm_env.errors import InputError
from synthfm_env.segmenters.sam2.fast.onednn import uses_onednn
from synthfm_env.segmenters.sam2.multiview.refiner_input import CHANNELS, RefinerInput
from synthfm_env.segmenters.weights_file import fill, read_safetensors

_WIDTHS = (16, 32, 64)  # at full, half and quarter resolution; multiples of 16 are what CPUs convolve fast
# What is convolved is filled up to sides of a multiple of 4 and at least 12: on fewer than three voxels at quarter
# resolution oneDNN's bfloat16 convolutions give wrong gradients.
_MULTIPLE, _LEAST = 4, 12


class Refines(Protocol):
    """A ``Refiner``, or a recorder around one."""

    def refine(self, draft: RefinerInput) -> Tensor:
        """Return final logits, float32 (d, h, w), on the CPU."""


class _Conv3d(nn.Conv3d):
    """A convolution that uses oneDNN on a CPU for every shape.

    Where batch, channels, depth and height multiply to less than 20481 torch does it in a way of its own, which takes
    up to ten times as long on the flat or small boxes that objects have.
    """

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if torch.is_grad_enabled() or not uses_onednn(x):
            return super()._conv_forward(x, weight, bias)
        assert not isinstance(self.padding, str)
        done: Tensor = torch.mkldnn_convolution(x, weight, bias, self.padding, self.stride, self.dilation, self.groups)
        return done


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = (_Conv3d(width, width, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.second(F.relu(self.first(x)))
        return F.relu(x + added)


class Refiner(nn.Module):
    """A 3D U-Net of three resolutions and 0.6 million parameters that adds to a draft's logits.

    It sees no more than a box, on a grid of at most twice a mask's pixels along a side: enough to weigh three flat
    views against each other, against distances and against the edges of the image, which SAM 2's masks are too coarse
    for.
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
            nn.init.zeros_(parameter)  # untrained it changes nothing
        for module in self.modules():
            if isinstance(module, _Conv3d):
                module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last_3d)

    def forward(self, channels: Tensor) -> Tensor:
        """Return what to add to the logits.

        Args:
            channels: float32 (B, CHANNELS, d, h, w), any sides.

        Returns:
            float32 (B, d, h, w).
        """
        size = channels.shape[2:]
        padding = [end for n in reversed(size) for end in (0, max(_LEAST - n, -n % _MULTIPLE))]
        x = F.relu(self.stem(F.pad(channels, padding, mode="replicate")))
        fine = []
        for i, encode in enumerate(self.encode):
            x = encode(F.relu(self.down[i - 1](x)) if i else x)
            fine.append(x)
        x = self.bottom(x)
        for i in reversed(range(len(self.up))):
            x = self.decode[i](F.relu(self.up[i](x) + fine[i]))
        added: Tensor = self.head(x)[:, 0, : size[0], : size[1], : size[2]]
        return 4 * added

    def refine(self, draft: RefinerInput) -> Tensor:
        """Return a draft's logits, refined where the object may end; float32 (d, h, w), on the CPU."""
        logits, part = draft.logits, draft.object_extent()
        channels = draft.channels()[:, *part][None].to(self.head.weight.device)
        logits[part] += self(channels.contiguous(memory_format=torch.channels_last_3d))[0].float().cpu()
        return logits


def load_refiner(path: Path | None = None) -> Refiner:
    """Return the packaged refiner, or one that ``synthfm train`` wrote, in evaluation mode, on the CPU.

    Raises:
        InputError: the file is missing or damaged, or holds something else.
    """
    if path is None:
        path = Path(str(files("synthfm_env") / "weights" / "synthfm3d-refiner.safetensors"))
    if not path.is_file():
        raise InputError(
            f"weights {str(path)!r} do not exist; give weights that `synthfm train synthfm3d-refiner` wrote"
        )
    return fill(Refiner(), read_safetensors(path)[1], path).eval()
