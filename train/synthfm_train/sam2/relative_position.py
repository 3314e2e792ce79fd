"""Slice relative position prediction of SAM2-3dMed (arXiv 2510.08967): the signed offset between two slices."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_CELLS = 4  # along each side of a slice's pooled map: a mean over the whole slice forgets where things are


class RelativePositionHead(nn.Module):
    """Predicts how many slices lie between any two slices of a clip, from their features alone; used in training only.

    The paper gives the input, the target and the loss, not the layers. These here are ours: a 1 x 1 convolution,
    pooling to ``4 x 4`` cells, one linear layer a slice, and a perceptron on the pair. As in the paper's final version,
    no memory takes part.
    """

    def __init__(self, channels: int, width: int = 16, embedding: int = 64) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, width, 1)
        self.embed = nn.Linear(width * _CELLS**2, embedding)
        self.pair = nn.Sequential(nn.Linear(2 * embedding, embedding), nn.GELU(), nn.Linear(embedding, 1))

    def forward(self, slices: Tensor) -> Tensor:
        """Return the predicted offsets from slice i to slice j: (B, T, T), i before j.

        Args:
            slices: the image encoder's map at stride 16 of B clips of T slices, (B, T, C, h, w).
        """
        clips, length = slices.shape[:2]
        cells = F.adaptive_avg_pool2d(self.squeeze(slices.flatten(0, 1)), _CELLS)
        embedded = F.gelu(self.embed(cells.flatten(1))).unflatten(0, (clips, length))
        first = embedded[:, :, None].expand(-1, -1, length, -1)
        second = embedded[:, None].expand(-1, length, -1, -1)
        offsets: Tensor = self.pair(torch.cat((first, second), -1))[..., 0]
        return offsets


def relative_position_loss(predicted: Tensor) -> Tensor:
    """Return the mean squared error of offsets over all ordered pairs of different slices.

    A head that always answers 0 has ``T (T + 1) / 6``.

    Args:
        predicted: (B, T, T) with T at least 2; the truth from slice i to slice j is ``j - i``, counted in slices.

    Example:
        >>> import torch
        >>> float(relative_position_loss(torch.zeros(1, 2, 2)))
        1.0
    """
    length = predicted.shape[-1]
    place = torch.arange(length, device=predicted.device, dtype=torch.float32)
    error = (predicted.float() - (place[None, :] - place[:, None])) ** 2
    different = ~torch.eye(length, dtype=torch.bool, device=predicted.device)
    return error[:, different].mean()
