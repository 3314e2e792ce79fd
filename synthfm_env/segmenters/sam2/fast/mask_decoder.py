"""Decodes masks of slices without a prompt as SAM 2's mask decoder, with all constant parts computed once."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from sam2.modeling.sam.transformer import Attention
from sam2.modeling.sam2_base import NO_OBJ_SCORE, SAM2Base
from torch import Tensor, nn

from synthfm_env.segmenters.sam2.fast.onednn import FusedLinear, apply_linear, apply_norm, linear
from synthfm_env.segmenters.sam2.slice_memory import SliceMemory


class DecodedSlices(NamedTuple):
    """Output of the decoder for B slices.

    Attributes:
        masks: (B, 1, 4h, 4w) logits; -1024 if there is no object.
        pointers: (B, C).
        scores: (B, 1), above 0 if there is an object.
        ious: (B,) the model's estimate of the mask's quality; 0 if there is no object.
    """

    masks: Tensor
    pointers: Tensor
    scores: Tensor
    ious: Tensor

    def memory(self, i: int, features: Tensor) -> SliceMemory:
        """Return slice ``i`` as a memory with the given memory features (1, C, h, w)."""
        return SliceMemory(self.masks[i : i + 1], features, self.pointers[i : i + 1], self.ious[i])


class FastMaskDecoder:
    """``SAM2Base._forward_sam_heads`` without prompts, equal up to the rounding of sums.

    Without prompts, tokens and position encodings are the same for every slice. So the first self-attention is computed
    once, position encodings are projected once, and projections of the same input are fused into one matrix product.
    The upscaling is a matrix product too, because kernel and stride of its transposed convolutions are equal.
    """

    @torch.no_grad()
    def __init__(self, model: SAM2Base) -> None:
        """Compute the tokens of an empty prompt, fuse weights, and project position encodings."""
        self._model, self._decoder = model, model.sam_mask_decoder
        decoder, transformer = self._decoder, self._decoder.transformer
        # Embed the empty prompt: one padding point, and no mask. The embedding of no mask is the same at every pixel.
        nowhere = torch.zeros(1, 1, 2, device=model.device)
        padding = -torch.ones(1, 1, dtype=torch.int32, device=model.device)
        sparse, dense = model.sam_prompt_encoder(points=(nowhere, padding), boxes=None, masks=None)
        self._no_mask = dense[:, :, :1, :1].flatten(2).transpose(1, 2)
        # Tokens of the decoder: object score, IoU, masks, prompt.
        score = [decoder.obj_score_token.weight] if decoder.pred_obj_scores else []
        own = torch.cat([*score, decoder.iou_token.weight, decoder.mask_tokens.weight])
        tokens = torch.cat([own[None], sparse], 1)
        position = model.sam_prompt_encoder.get_dense_pe().flatten(2).transpose(1, 2)
        # The first self-attention depends on the tokens alone.
        first = transformer.layers[0]
        self._queries = first.norm1(first.self_attn(q=tokens, k=tokens, v=tokens))
        # Fuse the projections of each layer that read the same input.
        self._self_qkv, self._token_q, self._image_kvq, self._token_kv = [], [], [], []
        for layer in transformer.layers:
            self_attention = layer.self_attn
            to_image, to_token = layer.cross_attn_token_to_image, layer.cross_attn_image_to_token
            self._self_qkv.append(
                FusedLinear(
                    [(self_attention.q_proj, tokens), (self_attention.k_proj, tokens), (self_attention.v_proj, None)]
                )
            )
            self._token_q.append(FusedLinear([(to_image.q_proj, tokens)]))
            self._image_kvq.append(
                FusedLinear([(to_image.k_proj, position), (to_image.v_proj, None), (to_token.q_proj, position)])
            )
            self._token_kv.append(FusedLinear([(to_token.k_proj, tokens), (to_token.v_proj, None)]))
        final = transformer.final_attn_token_to_image
        self._final_q = FusedLinear([(final.q_proj, tokens)])
        self._final_kv = FusedLinear([(final.k_proj, position), (final.v_proj, None)])
        self._upscaling = [_as_product(decoder.output_upscaling[i]) for i in (0, 3)]
        self._multimask = model._use_multimask(False, None)

    def __call__(self, conditioned: Tensor, fine: Tensor, middle: Tensor) -> DecodedSlices:
        """Decode slices.

        Args:
            conditioned: (B, h * w, C), features conditioned on memory.
            fine: (B, C / 8, 4h, 4w), from the image encoder.
            middle: (B, C / 4, 2h, 2w), from the image encoder.
        """
        decoder, model = self._decoder, self._model
        tokens, image = self._transform(conditioned + self._no_mask)
        start = int(decoder.pred_obj_scores)
        # Masks and their estimated IoU: the single mask (0), or the alternatives (1 to 3).
        chosen = range(1, decoder.num_mask_tokens) if self._multimask else range(1)
        ious = decoder.iou_prediction_head(tokens[:, start])[:, chosen.start : chosen.stop]
        mask_tokens = tokens[:, start + 1 :]
        mixtures = torch.stack([decoder.output_hypernetworks_mlps[i](mask_tokens[:, i]) for i in chosen], 1)
        masks = self._upscale(image, mixtures, fine, middle).float()
        pointer_token = mask_tokens[:, 0]
        if self._multimask:
            # Keep the alternative with the highest estimated IoU.
            rows, best = torch.arange(len(ious), device=ious.device), ious.argmax(-1)
            masks = masks[rows, best][:, None]
            if decoder.use_multimask_token_for_obj_ptr:
                pointer_token = mask_tokens[rows, 1 + best]
        pointers, best_ious = model.obj_ptr_proj(pointer_token), ious.amax(-1)
        if not model.pred_obj_scores:
            return DecodedSlices(masks, pointers, torch.full_like(best_ious[:, None], 10.0), best_ious)
        # Without an object the mask is empty, and the pointer is replaced by the learned one of no object.
        scores = decoder.pred_obj_score_head(tokens[:, 0])
        present = scores > 0
        masks = torch.where(present[:, None, None], masks, NO_OBJ_SCORE)
        weight = scores.sigmoid() if model.soft_no_obj_ptr else present.float()
        if model.fixed_no_obj_ptr:
            pointers = weight * pointers
        pointers = pointers + (1 - weight) * model.no_obj_ptr
        return DecodedSlices(masks, pointers, scores, best_ious * present[:, 0])

    def _transform(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Run the two-way transformer: return the tokens (B, T, C) and the image (B, h * w, C)."""
        transformer = self._decoder.transformer
        tokens = self._queries.expand(len(image), -1, -1)
        for i, layer in enumerate(transformer.layers):
            # Tokens attend to each other; the first layer's result is constant.
            if i > 0:
                tokens = apply_norm(layer.norm1, tokens + _attend(layer.self_attn, *self._self_qkv[i](tokens)))
            # Tokens attend to the image.
            image_k, image_v, image_q = self._image_kvq[i](image)
            (token_q,) = self._token_q[i](tokens)
            attended = _attend(layer.cross_attn_token_to_image, token_q, image_k, image_v)
            tokens = apply_norm(layer.norm2, tokens + attended)
            hidden, out = layer.mlp.layers
            tokens = apply_norm(layer.norm3, tokens + apply_linear(out, layer.mlp.act(apply_linear(hidden, tokens))))
            # The image attends to the tokens.
            token_k, token_v = self._token_kv[i](tokens)
            image = apply_norm(layer.norm4, image + _attend(layer.cross_attn_image_to_token, image_q, token_k, token_v))
        # Tokens attend to the image once more.
        (token_q,), (image_k, image_v) = self._final_q(tokens), self._final_kv(image)
        attended = _attend(transformer.final_attn_token_to_image, token_q, image_k, image_v)
        return apply_norm(transformer.norm_final_attn, tokens + attended), image

    def _upscale(self, image: Tensor, mixtures: Tensor, fine: Tensor, middle: Tensor) -> Tensor:
        """Upscale the image features fourfold and mix their channels into masks.

        Args:
            image: (B, h * w, C), from the transformer.
            mixtures: (B, K, C / 8), weights of the channels in each mask.
            fine: (B, C / 8, 4h, 4w), added after the second upscaling.
            middle: (B, C / 4, 2h, 2w), added after the first upscaling.

        Returns:
            (B, K, 4h, 4w).
        """
        _, norm, act, _, last_act = self._decoder.output_upscaling
        b, side = len(image), middle.shape[-1] // 2
        (to_middle, bias_1), (to_fine, bias_2) = self._upscaling
        # Each upscaling turns a pixel into a block of 2 x 2 pixels. The pixels stay in the order of the coarse grid, so
        # the axes become (b, y, x, y2, x2, channels), then (b, y, x, y2, x2, y4, x4, channels).
        up = linear(image, to_middle, bias_1).view(b, side, side, 2, 2, -1)
        up = up + middle.view(b, -1, side, 2, side, 2).permute(0, 2, 4, 3, 5, 1)
        up = act(F.layer_norm(up, up.shape[-1:], norm.weight, norm.bias, norm.eps))
        up = linear(up, to_fine, bias_2).view(b, side, side, 2, 2, 2, 2, -1)
        up = last_act(up + fine.view(b, -1, side, 2, 2, side, 2, 2).permute(0, 2, 5, 3, 6, 4, 7, 1))
        masks = torch.bmm(mixtures, up.view(b, -1, up.shape[-1]).transpose(1, 2))
        # Rearrange the blocks into rows and columns.
        blocks = masks.view(b, -1, side, side, 2, 2, 2, 2)
        return blocks.permute(0, 1, 2, 4, 6, 3, 5, 7).reshape(b, -1, 4 * side, 4 * side)


def _attend(attention: Attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return an attention's output for projected queries, keys and values (B, tokens, channels)."""
    heads = [attention._separate_heads(x, attention.num_heads) for x in (q, k, v)]
    return apply_linear(attention.out_proj, attention._recombine_heads(F.scaled_dot_product_attention(*heads)))


def _as_product(layer: nn.ConvTranspose2d) -> tuple[Tensor, Tensor]:
    """Return a transposed convolution with kernel and stride 2 as weight and bias of a matrix product.

    Its outputs are the four parts of a pixel, row by row, each with all channels.
    """
    weight = layer.weight.permute(2, 3, 1, 0).flatten(0, 2).contiguous()
    assert layer.bias is not None
    return weight, layer.bias.repeat(4)
