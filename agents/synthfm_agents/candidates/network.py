"""Defines the network that scores candidate clicks from their features."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthfm_env.candidates import FEATURES


class CandidateNet(nn.Module):
    """Scores each candidate with one small shared network, whose input includes a summary of all candidates.

    The scores do not depend on the order of the candidates, and their number is free. Networks of this kind are Zaheer
    et al.'s "Deep Sets" (NeurIPS 2017); the sizes are this project's.

    A linear layer from the features to the scores bypasses the hidden layers, so that a feature such as the gain of a
    look-ahead counts from the start of a training. Dropout acts in ``train()`` mode only.

    Args:
        width: channels of the hidden layers.

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
            mask: bool (n, k + 1), True for actions that exist.
        """
        exists = mask[:, :-1, None]
        each = self.dropout(F.relu(self.each(features))) * exists
        each = self.dropout(F.relu(self.again(each) + self.together(_pooled(each, exists))[:, None])) * exists
        pooled = _pooled(each, exists)
        scores = self.click(each) + self.direct(features)
        logits = torch.cat([scores[..., 0], self.stop(pooled)], dim=1)
        return logits.masked_fill(~mask, -1e9), self.value(pooled)[:, 0]

    @torch.no_grad()
    def sharpen(self, factor: float) -> None:
        """Multiply the logits of all actions: the best action stays the same, and sampling prefers it more."""
        for layer in (self.click, self.direct, self.stop):
            for parameter in layer.parameters():
                parameter.mul_(factor)


def _pooled(each: Tensor, exists: Tensor) -> Tensor:
    """Return the mean and the maximum over the candidates that exist, (n, 2 * width)."""
    return torch.cat([each.sum(1) / exists.sum(1).clamp_min(1), each.amax(1)], dim=1)
