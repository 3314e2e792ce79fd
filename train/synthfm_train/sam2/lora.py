"""Low-rank updates (LoRA, Hu et al. 2021, arXiv 2106.09685) of the image encoder's attention."""

import torch
from sam2.modeling.backbones.hieradet import MultiScaleAttention
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor, nn
from torch.nn.utils import parametrize

from synthfm_env.errors import InputError


class LowRankUpdate(nn.Module):
    """Adds a product of two thin matrices to a frozen weight; at the start it adds nothing."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        rows, columns = weight.shape
        self.down = nn.Parameter(torch.randn(rank, columns) / columns**0.5)
        self.up = nn.Parameter(torch.zeros(rows, rank))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the updated weight."""
        return weight + self.up @ self.down


def add_low_rank_updates(model: SAM2Base, rank: int) -> None:
    """Give the projections of every attention block of a frozen Hiera an update of a rank; call it within ``seeded``.

    Raises:
        InputError: the trunk has no attention.
    """
    blocks = [module for module in model.image_encoder.modules() if isinstance(module, MultiScaleAttention)]
    if not blocks:
        raise InputError(
            f'lora {rank} updates attention, which this trunk does not have; set trunk = "hiera" or lora = 0'
        )
    for block in blocks:
        for layer in (block.qkv, block.proj):
            parametrize.register_parametrization(layer, "weight", LowRankUpdate(layer.weight, rank))


def merged_state(model: nn.Module) -> dict[str, Tensor]:
    """Return a model's tensors with each low-rank update added to the weight that it updates, for use without them."""
    state: dict[str, Tensor] = model.state_dict()
    for name, module in model.named_modules():
        if parametrize.is_parametrized(module, "weight"):
            parts = f"{name}.parametrizations.weight."
            state = {key: value for key, value in state.items() if not key.startswith(parts)}
            state[f"{name}.weight"] = module.weight.detach()
    return state
