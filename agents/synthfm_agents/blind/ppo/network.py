"""Defines the network of the clicker ``ppo``, which scores clicks on cells of an image with conspicuous grey."""

from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from synthfm_agents.base import Observation, clicks_in

GRID: Final = (6, 12, 12)
"""Cells (z, y, x) that an image of any size is divided into. A click goes to the middle of a cell."""

CANDIDATES: Final = 64
"""Number of candidates: the cells whose mean grey differs most from the median of all cells."""

FEATURES: Final = 14
OPEN: Final = 13
"""Index of the feature that is 1 if the candidate was not clicked, else 0."""

ACTIONS: Final = 2 * CANDIDATES + 1
"""Number of actions: a negative and a positive click for each candidate, and stopping."""


def network_input(observation: Observation) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the network's input, float32 (CANDIDATES, FEATURES), and the candidates' voxels, int64 (CANDIDATES, 3).

    Candidates are sorted by the difference of their grey to the median. Their features, with greys in deviations of the
    image:

    - mean grey, its difference to the median, deviation in the cell, difference to the mean of 3³ and of 5³ cells
      around;
    - share of the mask in the cell, and in 3³ cells around;
    - distance to the nearest click and to the nearest positive click, in sizes of the image, at most 1;
    - z, y, x from -1 to 1; share of the clicks that is left; whether the candidate may be clicked.
    """
    # Grey, mask and their surroundings in each cell.
    shape, clicks = np.array(observation["image"].shape), clicks_in(observation)
    image = torch.from_numpy(observation["image"].astype(np.float32))[None, None]
    image = (image - image.mean()) / image.std().clamp_min(1.0)
    grey = F.adaptive_avg_pool3d(image, GRID)
    spread = (F.adaptive_avg_pool3d(image**2, GRID) - grey**2).clamp_min(0).sqrt()
    mask = F.adaptive_avg_pool3d(torch.from_numpy(observation["mask"].astype(np.float32))[None, None], GRID)
    planes = [grey, (grey - grey.median()).abs(), spread, grey - _around(grey, 3), grey - _around(grey, 5)]
    maps = torch.stack([plane.flatten() for plane in [*planes, mask, _around(mask, 3)]]).numpy()
    # The most conspicuous cells, and the voxels in their middles.
    chosen = np.argsort(-maps[1], kind="stable")[:CANDIDATES]
    cells = np.stack(np.unravel_index(chosen, GRID), axis=1)
    voxels = (2 * cells + 1) * shape // (2 * np.array(GRID))
    # Their places and distances to the clicks, in sizes of the image.
    place = (cells + 0.5) / GRID
    left = np.full((CANDIDATES, 1), 1 - len(clicks) / len(observation["clicks"]))
    near_any = _distance(place, [(np.array(click.zyx) + 0.5) / shape for click in clicks])
    near_positive = _distance(place, [(np.array(click.zyx) + 0.5) / shape for click in clicks if click.positive])
    clicked = {click.zyx for click in clicks}
    is_open = np.array([[tuple(voxel) not in clicked] for voxel in voxels.tolist()])
    features = np.hstack([maps[:, chosen].T, near_any, near_positive, 2 * place - 1, left, is_open])
    return features.astype(np.float32), voxels


def _around(cells: Tensor, size: int) -> Tensor:
    """Return the mean over ``size``³ cells around each cell, within the grid."""
    return F.avg_pool3d(cells, size, 1, size // 2, count_include_pad=False)


def _distance(places: NDArray[np.float64], others: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the distance of each of n places to the nearest of some others, at most 1, float64 (n, 1)."""
    distances = [np.linalg.norm(places - other, axis=1) for other in others]
    return np.min([np.ones(len(places)), *distances], axis=0)[:, None]


class ClickNet(nn.Module):
    """Scores each candidate with one small shared network, whose input includes a summary of all candidates.

    Args:
        width: number of channels in each layer.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.each = nn.Linear(FEATURES, width)
        self.again = nn.Linear(width, width)
        self.together = nn.Linear(2 * width, width)
        self.clicks = nn.Linear(width, 2)
        self.stop = nn.Linear(2 * width, 1)
        self.value = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, 1))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits of all actions, (n, ACTIONS), and the expected return, (n, 1).

        Action ``2 * candidate + positive`` clicks on a candidate, the last one stops.

        Args:
            features: (n, CANDIDATES, FEATURES).
        """
        each = F.relu(self.each(features))
        each = F.relu(self.again(each) + self.together(_overall(each))[:, None])
        overall = _overall(each)
        clicks = self.clicks(each).masked_fill(features[..., OPEN : OPEN + 1] == 0, -1e9)
        return torch.cat([clicks.flatten(1), self.stop(overall)], dim=1), self.value(overall)


def _overall(each: Tensor) -> Tensor:
    """Return the mean and the maximum over all candidates, (n, 2 * width)."""
    return torch.cat([each.mean(dim=1), each.amax(dim=1)], dim=1)
