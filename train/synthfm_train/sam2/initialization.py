"""Initial weights from which a small SAM 2 learns at once to look at the click, and at the same place in memory."""

import torch
from sam2.modeling.sam2_base import SAM2Base

_NECK = 0.1  # the encoder's maps start small beside the position codes, or these drown in them
_LABEL = 0.1  # and so do the embeddings that tell positive from negative
_SHARPNESS = 2.0
_NOISE = 0.2  # share of the usual random weights that stays
_PLACE = 3.0


@torch.no_grad()
def attend_to_clicks(model: SAM2Base) -> None:
    """Start the mask decoder's attention between clicks and pixels where their position codes agree.

    SAM codes a position by the sines and cosines of random frequencies, so that the product of two codes falls off
    with the distance between them. A random decoder projects queries and keys by unrelated matrices, and that
    product is lost: finding it again takes thousands of steps in which the model predicts the same mask wherever
    the click falls. Here each head starts with the sine and cosine of a few frequencies as its queries and keys
    alike, hence with an attention that peaks at the click. All of it stays free to change.
    """
    for convolution in model.image_encoder.neck.convs:
        for parameter in convolution.parameters():
            parameter.mul_(_NECK)
    prompts, transformer = model.sam_prompt_encoder, model.sam_mask_decoder.transformer
    for embedding in [*prompts.point_embeddings, prompts.not_a_point_embed]:
        embedding.weight.mul_(_LABEL)
    # (2, d_model / 2): the code is the sines of all frequencies, then the cosines of all.
    frequencies = prompts.pe_layer.positional_encoding_gaussian_matrix
    by_pitch = frequencies.norm(dim=0).argsort()
    crossing = [layer.cross_attn_token_to_image for layer in transformer.layers]
    crossing += [layer.cross_attn_image_to_token for layer in transformer.layers]
    for attention in [*crossing, transformer.final_attn_token_to_image]:
        pick = torch.zeros_like(attention.q_proj.weight)
        width = attention.internal_dim // attention.num_heads
        for head in range(attention.num_heads):
            for i, f in enumerate(by_pitch[head :: attention.num_heads][: width // 2].tolist()):
                pick[head * width + 2 * i, f] = 1
                pick[head * width + 2 * i + 1, f + frequencies.shape[1]] = 1
        for projection in (attention.q_proj, attention.k_proj):
            projection.weight.mul_(_NOISE).add_(_SHARPNESS * pick)
            projection.bias.zero_()


@torch.no_grad()
def attend_in_place(model: SAM2Base) -> None:
    """Start memory attention at the same place of the remembered slices.

    Queries and keys are rotated by their position (RoPE), so the product of two constant vectors depends on the
    distance between the positions alone and is largest at none. Random projections have no constant part; equal
    biases give them one. At the start a place then reads the memory of its own place and of its neighbours.
    """
    for layer in model.memory_attention.layers:
        layer.cross_attn_image.q_proj.bias.fill_(_PLACE)
        layer.cross_attn_image.k_proj.bias.fill_(_PLACE)
