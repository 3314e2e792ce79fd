"""Computes ConvNeXt blocks with channels last in memory, so that 1 x 1 convolutions are matrix products."""

import torch
import torch.nn.functional as F
from sam2.modeling.memory_encoder import CXBlock
from sam2.modeling.sam2_utils import LayerNorm2d
from torch import Tensor

from synthfm_env.segmenters.sam2.fast.onednn import apply_linear, linear_activation


def convnext_residual(block: CXBlock, x: Tensor) -> Tensor:
    """Return what a block adds to a map (B, C, h, w)."""
    y = block.dwconv(x.contiguous(memory_format=torch.channels_last)).permute(0, 2, 3, 1)
    y = channel_norm(block.norm, y)
    y = apply_linear(block.pwconv2, linear_activation(block.pwconv1, block.act, y))
    return (y if block.gamma is None else block.gamma * y).permute(0, 3, 1, 2)


def channel_norm(norm: LayerNorm2d, x: Tensor) -> Tensor:
    """Normalise (B, h, w, C) along C."""
    return F.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, norm.eps)
