"""Boundary detection of SAM2-3dMed (arXiv 2510.08967): a branch beside the mask decoder that finds contours."""

import torch.nn.functional as F
from torch import Tensor, nn

_STRIDE = 4  # pixels along each side of a cell in which a contour passes or does not


class BoundaryHead(nn.Module):
    """Predicts an object's boundary on a slice that memory attention has conditioned; used in training only.

    Boundary features come from the memory-conditioned slice, which knows the object, and attend to the slice's own
    features, as in the paper: ``softmax(Q K^T / sqrt(d)) V`` with Q from the first and K and V from the second. The
    paper gives no layers and no resolution. A residual around the attention and an output at stride 4, which also reads
    the encoder's map of that stride, are ours.
    """

    def __init__(self, channels: int, fine_channels: int, width: int = 32) -> None:
        super().__init__()
        self.boundary = nn.Conv2d(channels, width, 3, padding=1)
        self.query, self.key, self.value = (
            nn.Linear(width, width),
            nn.Linear(channels, width),
            nn.Linear(channels, width),
        )
        self.fine = nn.Conv2d(fine_channels, width, 1)
        self.out = nn.Conv2d(width, 1, 1)

    def forward(self, conditioned: Tensor, own: Tensor, fine: Tensor) -> Tensor:
        """Return logits (N, 4h, 4w) of N objects' boundaries.

        Args:
            conditioned: what the mask decoder reads at stride 16, (N, C, h, w).
            own: the image encoder's map at stride 16, (N, C, h, w).
            fine: the map at stride 4 as the mask decoder projects it, (N, F, 4h, 4w).
        """
        features = self.boundary(conditioned)
        tokens, source = features.flatten(2).transpose(1, 2), own.flatten(2).transpose(1, 2)
        attended = F.scaled_dot_product_attention(self.query(tokens), self.key(source), self.value(source))
        fused = features + attended.transpose(1, 2).unflatten(2, features.shape[-2:])
        enlarged = F.interpolate(fused, size=fine.shape[-2:], mode="bilinear", align_corners=False)
        logits: Tensor = self.out(F.gelu(enlarged + self.fine(fine)))[:, 0]
        return logits


def boundary_cells(masks: Tensor) -> Tensor:
    """Return the cells that a mask's boundary passes through: bool (N, H/4, W/4).

    The boundary is the mask's pixels with a neighbour, diagonal ones included, outside of it. The image's edge is none.

    Args:
        masks: bool (N, H, W), sides a multiple of 4.

    Example:
        >>> import torch
        >>> masks = torch.zeros(1, 12, 12, dtype=torch.bool)
        >>> masks[:, :, :6] = True
        >>> boundary_cells(masks)[0, 0].tolist()
        [False, True, False]
    """
    inside = masks[:, None].float()
    eroded = -F.max_pool2d(-inside, 3, stride=1, padding=1)
    return F.max_pool2d(inside - eroded, _STRIDE)[:, 0] > 0


def boundary_loss(logits: Tensor, boundary: Tensor) -> Tensor:
    """Return the class-balanced cross-entropy of boundaries.

    The paper weighs boundary pixels by the share of the others, and the others by the share of boundary pixels, and
    sums. That sum is ``N_bd N_other / N`` times the sum of both classes' means. The factor is left out, so that the
    loss does not grow with the resolution or the object.

    Args:
        logits: (N, h, w).
        boundary: bool (N, h, w). A mask without boundary counts 0, as in the paper's sum.

    Example:
        >>> import torch
        >>> cells = torch.tensor([[[True, False, False, False]]])
        >>> round(float(boundary_loss(torch.zeros(1, 1, 4), cells)), 4)  # 2 log 2
        1.3863
    """
    entropy = F.binary_cross_entropy_with_logits(logits.float(), boundary.float(), reduction="none").flatten(1)
    on = boundary.flatten(1).float()
    counts, others = on.sum(1), (1 - on).sum(1)
    means = (entropy * on).sum(1) / counts.clamp(min=1) + (entropy * (1 - on)).sum(1) / others.clamp(min=1)
    return (means * ((counts > 0) & (others > 0))).mean()
