"""Freezes parts of SAM 2 by training scheme."""

from typing import Literal

from sam2.modeling.sam2_base import SAM2Base

Trains = Literal["all", "decoder-from-scratch", "memory+decoder"]

# The projection of the decoder's token to an object pointer trains with the decoder, its only input.
DECODER = ("sam_mask_decoder.", "obj_ptr_proj.")
_ENCODERS = ("image_encoder.", "sam_prompt_encoder.")
_ADAPTERS = "image_encoder.adapters."


def freeze(model: SAM2Base, trains: Trains) -> None:
    """Turn off the gradients of all parameters that a scheme does not train; 3D adapters always train.

    - ``"all"`` trains every parameter.
    - ``"decoder-from-scratch"`` trains the mask decoder and the projection of its token, as SynthFM (arXiv 2504.08177).
    - ``"memory+decoder"`` trains all but the image and the prompt encoder, as SAM2-3dMed (arXiv 2510.08967).
    """
    for name, parameter in model.named_parameters():
        decoder_only = trains == "decoder-from-scratch" and not name.startswith(DECODER)
        frozen = decoder_only or (trains == "memory+decoder" and name.startswith(_ENCODERS))
        parameter.requires_grad_(not frozen or name.startswith(_ADAPTERS))
