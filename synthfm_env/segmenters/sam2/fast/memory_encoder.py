"""Computes SAM 2's memory encoder with channels-last convolutions."""

import torch
import torch.nn.functional as F
from sam2.modeling.sam2_base import SAM2Base
from sam2.modeling.sam2_utils import LayerNorm2d
from torch import Tensor, nn

from synthfm_env.segmenters.sam2.fast.convnext import channel_norm, convnext_residual
from synthfm_env.segmenters.sam2.fast.onednn import linear

# Fewer channels are normalised faster across planes than along pixels.
_FEW_CHANNELS = 16


class FastMemoryEncoder:
    """``SAM2Base._encode_new_memory`` for tracked slices, equal up to the rounding of sums.

    Channels are last in memory, so that 1 x 1 convolutions are matrix products and norms run along pixels.
    """

    @torch.no_grad()
    def __init__(self, model: SAM2Base) -> None:
        """Lay out the weights; the model is not changed."""
        self._model = model
        self._kernels = {
            layer: layer.weight.contiguous(memory_format=torch.channels_last)
            for layer in model.memory_encoder.mask_downsampler.encoder
            if isinstance(layer, nn.Conv2d) and layer.out_channels >= _FEW_CHANNELS
        }

    def __call__(self, coarse: Tensor, masks: Tensor, scores: Tensor) -> Tensor:
        """Make memories.

        Args:
            coarse: (B, C, h, w), features of slices at stride 16.
            masks: (B, 1, 4h, 4w), logits.
            scores: (B, 1), above 0 if there is an object.

        Returns:
            bfloat16 (B, mem_dim, h, w), as stock SAM 2 keeps memories.
        """
        model, encoder = self._model, self._model.memory_encoder
        # Turn logits into a mask at the image's resolution, scaled as in training.
        size = (model.image_size, model.image_size)
        x = F.interpolate(masks, size=size, mode="bilinear", align_corners=False)
        x = x.sigmoid() * model.sigmoid_scale_for_mem_enc + model.sigmoid_bias_for_mem_enc
        # Downsample the mask to stride 16 and add the image's features.
        for layer in encoder.mask_downsampler.encoder:
            x = self._downsample(layer, x)
        x = x + _pointwise(encoder.pix_feat_proj, coarse)
        # Fuse both, and reduce the channels.
        for block in encoder.fuser.layers:
            x = x + convnext_residual(block, x)
        if isinstance(encoder.out_proj, nn.Conv2d):
            x = _pointwise(encoder.out_proj, x)
        # Mark memories of slices without the object.
        if model.no_obj_embed_spatial is not None:
            x = x + ((scores <= 0).float() * model.no_obj_embed_spatial)[..., None, None]
        return x.to(torch.bfloat16, memory_format=torch.contiguous_format)

    def _downsample(self, layer: nn.Module, x: Tensor) -> Tensor:
        """Apply one layer of the mask's downsampling to (B, C, h, w)."""
        if isinstance(layer, LayerNorm2d) and x.shape[1] >= _FEW_CHANNELS:
            return channel_norm(layer, x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        if not isinstance(layer, nn.Conv2d):
            output: Tensor = layer(x)
            return output
        if layer.kernel_size == (1, 1):
            return _pointwise(layer, x)
        kernel = self._kernels.get(layer, layer.weight)
        return F.conv2d(x, kernel, layer.bias, layer.stride, layer.padding)


def _pointwise(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """Apply a 1 x 1 convolution to (B, C, h, w)."""
    return linear(x.permute(0, 2, 3, 1), layer.weight.flatten(1), layer.bias).permute(0, 3, 1, 2)
