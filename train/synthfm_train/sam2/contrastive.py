"""Computes a contrastive loss on pixel embeddings: similar within a structure, different between structures."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_PIXELS = 192  # drawn from each slice


class DenseHead(nn.Module):
    """Projects the encoder's three maps to one embedding for each pixel at stride 4; used in training only."""

    def __init__(self, channels: tuple[int, int, int], width: int = 32) -> None:
        super().__init__()
        self.levels = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Return unit-length float32 (B, width, S/4, S/4) from the maps at stride 4, 8 and 16."""
        size = maps[0].shape[-2:]
        projected = [
            F.interpolate(level(m), size=size, mode="bilinear", align_corners=False)
            for level, m in zip(self.levels, maps, strict=True)
        ]
        return F.normalize(torch.stack(projected).sum(0), dim=1)


def dense_loss(maps: list[Tensor], head: DenseHead, labels: Tensor, generator: torch.Generator) -> Tensor:
    """Return the contrastive loss over random pixels of each slice.

    Args:
        maps: of B slices, from ``encode_slices``, at stride 4, 8 and 16.
        head: the projection.
        labels: integer (B, S, S).
        generator: draws the pixels, on the CPU.
    """
    # Embeddings and labels of all pixels at stride 4.
    embeddings = head(maps).flatten(2)
    small = F.interpolate(labels[:, None].float(), scale_factor=0.25, mode="nearest-exact").flatten(1).long()
    # Half of the pixels uniformly, half evenly over the labels, or small structures would hardly ever be drawn.
    frequency = torch.zeros(len(small), int(small.max()) + 1, device=small.device)
    frequency.scatter_add_(1, small, torch.ones_like(small, dtype=torch.float32))
    weight = 1 / frequency.gather(1, small)
    so_far = (weight / weight.sum(1, keepdim=True) + 1 / small.shape[1]).cumsum(1)
    # Draw by inversion of the cumulative weights.
    drawn = torch.rand((len(small), _PIXELS), generator=generator).to(small.device)
    picked = torch.searchsorted(so_far, drawn * so_far[:, -1:]).clamp(max=small.shape[1] - 1)
    chosen = embeddings.gather(2, picked[:, None].expand(-1, embeddings.shape[1], -1)).transpose(1, 2)
    return contrastive_loss(chosen, small.gather(1, picked))


def contrastive_loss(embeddings: Tensor, labels: Tensor, temperature: float = 0.1) -> Tensor:
    """Compute the supervised contrastive loss among the pixels of each image (``L_out`` of Khosla et al. 2020).

    Args:
        embeddings: float32 (B, P, C), unit length.
        labels: integer (B, P).
        temperature: of the softmax over the other pixels of the image.
    """
    # bfloat16 is too coarse for similarities of up to 1 / temperature.
    with torch.autocast(embeddings.device.type, enabled=False):
        similarity = embeddings.float() @ embeddings.float().transpose(1, 2) / temperature
    itself = torch.eye(similarity.shape[1], dtype=torch.bool, device=similarity.device)
    similarity = similarity.masked_fill(itself, -1e9)
    same = (labels[:, :, None] == labels[:, None, :]) & ~itself
    log_share = similarity.log_softmax(-1)
    pairs = same.sum(-1)
    per_pixel = -(log_share * same).sum(-1) / pairs.clamp(min=1)
    return per_pixel[pairs > 0].mean()
