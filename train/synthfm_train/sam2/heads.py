"""Heads that take part in training alone; the weights of a segmenter hold none of them."""

from sam2.modeling.sam2_base import SAM2Base
from torch import nn

from synthfm_env.segmenters.sam2 import seeded
from synthfm_train.sam2.boundary import BoundaryHead
from synthfm_train.sam2.contrastive import DenseHead
from synthfm_train.sam2.recipe import TrainingRecipe
from synthfm_train.sam2.relative_position import RelativePositionHead


class TrainingHeads(nn.Module):
    """One head for each auxiliary loss of a recipe.

    Attributes:
        dense: of the contrastive loss; it trains if the image encoder does.
        relative_position: None if no phase of the recipe weighs its loss.
        boundary: None if no phase of the recipe weighs its loss.
    """

    def __init__(self, model: SAM2Base, recipe: TrainingRecipe) -> None:
        """Build the heads of a model's sizes; call it within ``seeded``."""
        super().__init__()
        decoder, top = model.sam_mask_decoder, model.hidden_dim
        fine, middle = decoder.conv_s0.out_channels, decoder.conv_s1.out_channels
        self.dense = DenseHead((fine, middle, top)).requires_grad_(recipe.trains == "all")
        positions = any(phase.relative_position for phase in recipe.phases)
        boundaries = any(phase.boundary for phase in recipe.phases)
        # Each starts from the recipe's seed alone: runs with and without one of them begin alike.
        with seeded(recipe.seed):
            self.relative_position = RelativePositionHead(top) if positions else None
        with seeded(recipe.seed):
            self.boundary = BoundaryHead(top, fine) if boundaries else None
