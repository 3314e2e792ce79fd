"""SAM 2's image encoder on a CPU: the same sums in fewer and quicker steps."""

import torch
import torch.nn.functional as F
from sam2.modeling.backbones.hieradet import MultiScaleBlock, do_pool
from sam2.modeling.backbones.utils import window_partition, window_unpartition
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor

from synthfm_env.segmenters.sam2.fast.onednn import activated, linear, normed, through


class Encoder:
    """``SAM2Base.forward_image``, up to the rounding of sums.

    Channels lie last throughout. Of the neck's maps at stride 4 and 8 only what two convolutions of the decoder make of
    them is wanted; all between is linear, so each stage is projected straight to those few channels.
    """

    @torch.no_grad()
    def __init__(self, model: SAM2Base) -> None:
        """Prepare what does not depend on slices."""
        self._trunk, self._neck = model.image_encoder.trunk, model.image_encoder.neck
        # The neck lists its convolutions from the coarsest map to the finest.
        self._deep, self._coarse, middle, fine = (level.conv for level in self._neck.convs)
        to_fine, to_middle = model.sam_mask_decoder.conv_s0, model.sam_mask_decoder.conv_s1
        self._middle_channels = to_middle.out_channels
        self._onward = torch.cat([to_middle.weight, to_fine.weight]).flatten(1)
        self._middle = self._onward @ middle.weight.flatten(1)
        last = to_fine.weight.flatten(1)
        self._fine = last @ fine.weight.flatten(1)
        self._middle_bias = self._onward @ middle.bias
        self._middle_bias[: self._middle_channels] += to_middle.bias
        self._fine_bias = last @ fine.bias + to_fine.bias

    def __call__(self, frames: Tensor) -> list[Tensor]:
        """Encode slices.

        Args:
            frames: float32 (B, 3, S, S), normalised.

        Returns:
            Maps at stride 4, 8 and 16, (B, channels, h, w), the first two as the decoder's convolutions leave them.
        """
        stages, x = [], self._trunk.patch_embed(frames)
        x = x + self._trunk._get_pos_embed(x.shape[1:3])
        for i, block in enumerate(self._trunk.blocks):
            x = _through_block(block, x)
            if i in self._trunk.stage_ends:
                stages.append(x)
        finest, finer, coarser, coarsest = stages
        deep = linear(coarsest, self._deep.weight.flatten(1), self._deep.bias)
        coarse = self._add(2, linear(coarser, self._coarse.weight.flatten(1), self._coarse.bias), deep)
        middle = self._add(1, linear(finer, self._middle, self._middle_bias), linear(coarse, self._onward))
        fine = linear(finest, self._fine, self._fine_bias)
        fine = self._add(0, fine, middle[..., self._middle_channels :])
        return [level.permute(0, 3, 1, 2) for level in (fine, middle[..., : self._middle_channels], coarse)]

    def _add(self, level: int, lateral: Tensor, above: Tensor) -> Tensor:
        """Add the map above, twice as coarse, to that of a level, where the neck does."""
        if level not in self._neck.fpn_top_down_levels:
            return lateral
        up = F.interpolate(above.permute(0, 3, 1, 2), scale_factor=2.0, mode=self._neck.fpn_interp_model)
        return lateral.add_(up.permute(0, 2, 3, 1))


def _through_block(block: MultiScaleBlock, x: Tensor) -> Tensor:
    """Return what a block of Hiera makes of (B, h, w, C)."""
    y = normed(block.norm1, x)
    if block.dim != block.dim_out:
        x = do_pool(through(block.proj, y), block.pool)
    x = through(block.attn.proj, _attend(block, y)).add_(x)
    first, second = block.mlp.layers
    return through(second, activated(first, block.mlp.act, normed(block.norm2, x))).add_(x)


def _attend(block: MultiScaleBlock, x: Tensor) -> Tensor:
    """Attend from (B, h, w, C) within windows, or within the whole slice, and pool where the block does."""
    attention, stride = block.attn, block.q_stride[0] if block.q_stride else 1
    rows, columns = x.shape[1:3]
    window = block.window_size
    products = through(attention.qkv, x)
    if window:
        products, padded = window_partition(_overhang(products, attention.qkv.bias, window), window)
    # Stock SAM 2 divides the images into windows first and projects what overhangs as well.
    tall, wide = products.shape[1:3]
    q, k, v = products.chunk(3, -1)
    q = do_pool(q, block.pool)
    heads = [part.flatten(1, 2).unflatten(-1, (attention.num_heads, -1)).transpose(1, 2) for part in (q, k, v)]
    found = F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
    found = found.unflatten(1, (tall // stride, wide // stride))
    if not window:
        return found
    padded = padded[0] // stride, padded[1] // stride
    return window_unpartition(found, window // stride, padded, (rows // stride, columns // stride))


def _overhang(products: Tensor, bias: Tensor, window: int) -> Tensor:
    """Fill (B, h, w, C) up to whole windows with what a projection makes of zeros, its bias."""
    b, rows, columns, _ = products.shape
    if not rows % window and not columns % window:
        return products
    filled = bias.expand(b, rows + -rows % window, columns + -columns % window, -1).contiguous()
    filled[:, :rows, :columns] = products
    return filled
