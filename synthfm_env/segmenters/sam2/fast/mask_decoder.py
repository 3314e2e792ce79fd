"""SAM 2's mask decoder for slices without a click: what is the same for all of them is computed once."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from sam2.modeling.sam.transformer import Attention
from sam2.modeling.sam2_base import NO_OBJ_SCORE, SAM2Base
from torch import Tensor, nn

from synthfm_env.segmenters.sam2.fast.onednn import Joined, linear, normed, through
from synthfm_env.segmenters.sam2.slice_memory import Output


class Decoded(NamedTuple):
    """What the decoder makes of B slices.

    Attributes:
        masks: (B, 1, 4h, 4w) logits; -1024 where there is no object.
        pointers: (B, C).
        scores: (B, 1), above 0 where there is an object.
        ious: (B,) the model's estimate of the mask's quality; 0 where there is no object.
    """

    masks: Tensor
    pointers: Tensor
    scores: Tensor
    ious: Tensor

    def of(self, i: int) -> Output:
        """Return one slice's."""
        return {"pred_masks": self.masks[i : i + 1], "obj_ptr": self.pointers[i : i + 1], "iou": self.ious[i]}


def _attend(attention: Attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return what an attention makes of its projections (B, tokens, channels)."""
    heads = [attention._separate_heads(x, attention.num_heads) for x in (q, k, v)]
    return through(attention.out_proj, attention._recombine_heads(F.scaled_dot_product_attention(*heads)))


class Decoder:
    """``SAM2Base._forward_sam_heads`` without prompts, in fewer steps; the same up to the rounding of sums.

    Without prompts the tokens are the same for every slice, and so are the positions: the first self-attention and
    what positions add to keys and queries are computed once. Layers that read the same input are one product. Masks and
    their upscaling are matrix products too: kernel and stride of its convolutions are equal.
    """

    @torch.no_grad()
    def __init__(self, model: SAM2Base) -> None:
        """Prepare what does not depend on slices."""
        self._model, self._decoder = model, model.sam_mask_decoder
        device = model.device
        nowhere = torch.zeros(1, 1, 2, device=device), -torch.ones(1, 1, dtype=torch.int32, device=device)
        sparse, dense = model.sam_prompt_encoder(points=nowhere, boxes=None, masks=None)
        self._dense = dense[:, :, :1, :1].flatten(2).transpose(1, 2)  # without a mask, the same everywhere
        decoder = self._decoder
        score = [decoder.obj_score_token.weight] if decoder.pred_obj_scores else []
        own = torch.cat([*score, decoder.iou_token.weight, decoder.mask_tokens.weight])
        tokens = torch.cat([own[None], sparse], 1)
        image = model.sam_prompt_encoder.get_dense_pe().flatten(2).transpose(1, 2)
        transformer = decoder.transformer
        first = transformer.layers[0]
        self._queries = first.norm1(first.self_attn(q=tokens, k=tokens, v=tokens))
        self._selves, self._asked, self._seen, self._answers = [], [], [], []
        for layer in transformer.layers:
            own_attention, to_image, to_token = (
                layer.self_attn, layer.cross_attn_token_to_image, layer.cross_attn_image_to_token
            )  # fmt: skip
            self._selves.append(
                Joined([(own_attention.q_proj, tokens), (own_attention.k_proj, tokens), (own_attention.v_proj, None)])
            )
            self._asked.append(Joined([(to_image.q_proj, tokens)]))
            self._seen.append(Joined([(to_image.k_proj, image), (to_image.v_proj, None), (to_token.q_proj, image)]))
            self._answers.append(Joined([(to_token.k_proj, tokens), (to_token.v_proj, None)]))
        final = transformer.final_attn_token_to_image
        self._last_asked = Joined([(final.q_proj, tokens)])
        self._last_seen = Joined([(final.k_proj, image), (final.v_proj, None)])
        self._ups = [_as_product(decoder.output_upscaling[i]) for i in (0, 3)]
        self._many = model._use_multimask(False, None)

    def __call__(self, seen: Tensor, fine: Tensor, middle: Tensor) -> Decoded:
        """Decode slices.

        Args:
            seen: (B, h * w, C), features conditioned on memory.
            fine: (B, C / 8, 4h, 4w), as the image encoder makes them.
            middle: (B, C / 4, 2h, 2w).
        """
        decoder, model = self._decoder, self._model
        tokens, keys = self._transform(seen + self._dense)
        start = int(decoder.pred_obj_scores)
        # The first mask stands alone, the others are to be chosen from.
        chosen = range(1, decoder.num_mask_tokens) if self._many else range(1)
        ious = decoder.iou_prediction_head(tokens[:, start])[:, chosen.start : chosen.stop]
        of_masks = tokens[:, start + 1 :]
        mixed = torch.stack([decoder.output_hypernetworks_mlps[i](of_masks[:, i]) for i in chosen], 1)
        masks = self._draw(keys, mixed, fine, middle).float()
        pointing = of_masks[:, 0]
        if self._many:
            rows, best = torch.arange(len(ious), device=ious.device), ious.argmax(-1)
            masks = masks[rows, best][:, None]
            if decoder.use_multimask_token_for_obj_ptr:
                pointing = of_masks[rows, 1 + best]
        pointers, best_ious = model.obj_ptr_proj(pointing), ious.amax(-1)
        if not model.pred_obj_scores:
            return Decoded(masks, pointers, torch.full_like(best_ious[:, None], 10.0), best_ious)
        scores = decoder.pred_obj_score_head(tokens[:, 0])
        there = scores > 0
        masks = torch.where(there[:, None, None], masks, NO_OBJ_SCORE)
        certainty = scores.sigmoid() if model.soft_no_obj_ptr else there.float()
        if model.fixed_no_obj_ptr:
            pointers = certainty * pointers
        pointers = pointers + (1 - certainty) * model.no_obj_ptr
        return Decoded(masks, pointers, scores, best_ious * there[:, 0])

    def _transform(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Return the tokens (B, T, C) and the image (B, h * w, C) as the two-way transformer leaves them."""
        transformer = self._decoder.transformer
        queries = self._queries.expand(len(keys), -1, -1)
        for i, layer in enumerate(transformer.layers):
            if i > 0:
                queries = normed(layer.norm1, queries + _attend(layer.self_attn, *self._selves[i](queries)))
            k, v, q = self._seen[i](keys)
            (asked,) = self._asked[i](queries)
            queries = normed(layer.norm2, queries + _attend(layer.cross_attn_token_to_image, asked, k, v))
            hidden, out = layer.mlp.layers
            queries = normed(layer.norm3, queries + through(out, layer.mlp.act(through(hidden, queries))))
            k, v = self._answers[i](queries)
            keys = normed(layer.norm4, keys + _attend(layer.cross_attn_image_to_token, q, k, v))
        (asked,), (k, v) = self._last_asked(queries), self._last_seen(keys)
        found = _attend(transformer.final_attn_token_to_image, asked, k, v)
        return normed(transformer.norm_final_attn, queries + found), keys

    def _draw(self, keys: Tensor, mixed: Tensor, fine: Tensor, middle: Tensor) -> Tensor:
        """Return masks (B, K, 4h, 4w) from the image's tokens and each mask's mixture of channels (B, K, C / 8)."""
        _, norm, act, _, last_act = self._decoder.output_upscaling
        b, side = len(keys), middle.shape[-1] // 2
        (to_middle, bias_1), (to_fine, bias_2) = self._ups
        # Tokens stay in the order of the coarse grid, each followed by its parts; (y, x) parts of each are last.
        up = linear(keys, to_middle, bias_1).view(b, side, side, 2, 2, -1)
        up = up + middle.view(b, -1, side, 2, side, 2).permute(0, 2, 4, 3, 5, 1)
        up = act(F.layer_norm(up, up.shape[-1:], norm.weight, norm.bias, norm.eps))
        up = linear(up, to_fine, bias_2).view(b, side, side, 2, 2, 2, 2, -1)
        up = last_act(up + fine.view(b, -1, side, 2, 2, side, 2, 2).permute(0, 2, 5, 3, 6, 4, 7, 1))
        masks = torch.bmm(mixed, up.view(b, -1, up.shape[-1]).transpose(1, 2))
        parts = masks.view(b, -1, side, side, 2, 2, 2, 2)
        return parts.permute(0, 1, 2, 4, 6, 3, 5, 7).reshape(b, -1, 4 * side, 4 * side)


def _as_product(layer: nn.ConvTranspose2d) -> tuple[Tensor, Tensor]:
    """Return weight and bias of the product that a transposed convolution is whose stride is its kernel, 2 x 2.

    Its outputs are the four parts of a pixel, row by row, and their channels.
    """
    weight = layer.weight.permute(2, 3, 1, 0).flatten(0, 2).contiguous()
    assert layer.bias is not None
    return weight, layer.bias.repeat(4)
