"""Defines the network that scores candidate clicks from their features."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthfm_env.candidates import FEATURES


class CandidateNet(nn.Module):
    """Score a set of candidates; the same small network for each, which is also told what all look like together.

    The scores do not depend on the order of the candidates, and any number of them may come. Such networks for sets
    are Zaheer et al.'s "Deep Sets" (NeurIPS 2017); the sizes are this project's.

    A linear layer from the features to the scores stands beside the hidden ones: a feature such as the gain that a
    look-ahead measured counts at once. Dropout acts in ``train()`` mode alone.

    Args:
        width: of its layers.

    Example:
        >>> logits, value = CandidateNet()(torch.zeros(2, 8, 44), torch.ones(2, 9, dtype=torch.bool))
        >>> logits.shape, value.shape
        (torch.Size([2, 9]), torch.Size([2]))
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.each = nn.Linear(len(FEATURES), width)
        self.again = nn.Linear(width, width)
        self.together = nn.Linear(2 * width, width)
        self.click = nn.Linear(width, 1)
        self.direct = nn.Linear(len(FEATURES), 1, bias=False)
        nn.init.zeros_(self.direct.weight)
        self.dropout = nn.Dropout(0.2)
        self.stop = nn.Linear(2 * width, 1)
        self.value = nn.Linear(2 * width, 1)

    def forward(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits of all actions, (n, k + 1), to stop last, and the expected return, (n,).

        Args:
            features: float32 (n, k, FEATURES), 0 for rows without a candidate.
            mask: bool (n, k + 1), which actions there are.
        """
        there = mask[:, :-1, None]
        each = self.dropout(F.relu(self.each(features))) * there
        each = self.dropout(F.relu(self.again(each) + self.together(_pooled(each, there))[:, None])) * there
        pooled = _pooled(each, there)
        scores = self.click(each) + self.direct(features)
        logits = torch.cat([scores[..., 0], self.stop(pooled)], dim=1)
        return logits.masked_fill(~mask, -1e9), self.value(pooled)[:, 0]

    @torch.no_grad()
    def sharpen(self, factor: float) -> None:
        """Multiply the logits of all actions: the choice stays, and samples come nearer to it."""
        for layer in (self.click, self.direct, self.stop):
            for parameter in layer.parameters():
                parameter.mul_(factor)


def _pooled(each: Tensor, there: Tensor) -> Tensor:
    """Return the mean and the maximum over the candidates that there are, (n, 2 * width)."""
    return torch.cat([each.sum(1) / there.sum(1).clamp_min(1), each.amax(1)], dim=1)
