"""What trains and what stays frozen, by name."""

from typing import Literal

import torch
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor

Trains = Literal["all", "decoder-from-scratch", "memory+decoder"]

# The projection of the decoder's token to an object pointer goes with the decoder: it reads nothing else.
DECODER = ("sam_mask_decoder.", "obj_ptr_proj.")
_ENCODERS = ("image_encoder.", "sam_prompt_encoder.")


def freeze(model: SAM2Base, trains: Trains) -> None:
    """Leave gradients to the parameters that train.

    - ``"all"``: every one.
    - ``"decoder-from-scratch"``: the mask decoder and the projection of its token, as SynthFM (arXiv 2504.08177).
    - ``"memory+decoder"``: all but the image and the prompt encoder, as SAM2-3dMed (arXiv 2510.08967).
    """
    for name, parameter in model.named_parameters():
        decoder_only = trains == "decoder-from-scratch" and not name.startswith(DECODER)
        frozen = decoder_only or (trains == "memory+decoder" and name.startswith(_ENCODERS))
        parameter.requires_grad_(not frozen)


def encode_slices(model: SAM2Base, frames: Tensor) -> tuple[list[Tensor], Tensor]:
    """Run the image encoder, without a gradient where it is frozen.

    Args:
        model: the SAM 2.
        frames: float32 (B, 3, S, S), normalised.

    Returns:
        The maps at stride 4, 8 and 16, the first two as the mask decoder projects them, and the position encoding
        of the last, (B, C, S/16, S/16).
    """
    trained = any(parameter.requires_grad for parameter in model.image_encoder.parameters())
    with torch.set_grad_enabled(trained and torch.is_grad_enabled()):
        encoded = model.image_encoder(frames)
    fine, middle, top = encoded["backbone_fpn"]
    decoder = model.sam_mask_decoder
    return [decoder.conv_s0(fine), decoder.conv_s1(middle), top], encoded["vision_pos_enc"][-1]
