"""Implements the random-walker baseline: random walks from each voxel to the clicks."""

import time
import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import random_walker

from synthfm_env.prompts import Click, Prompt
from synthfm_env.segmenters.base import Capabilities, Segmenter
from synthfm_env.segmenters.block_grid import BlockGrid
from synthfm_env.segmenters.click_distances import border_voxels, relative_steps
from synthfm_env.segmenters.image_input import prepare_image
from synthfm_env.segmenters.prompt_history import PromptHistorySession
from synthfm_env.volumes.intensity import LUMA

MAX_VOXELS = 60_000  # a linear system of this size is solved in a fraction of a second on one core ...
MAX_SIDE = 1000  # ... unless it is long and thin: the solver's iterations grow with the length
# One setting for all images, chosen with deepest-point clicks on ten synthetic structures and eight real ones. A walk
# in 3D hardly ever meets a single voxel, so a click is a ball of voxels of the same intensity: without it the mean
# Dice of the first click is below 0.1, with a ball of any intensity it is 0.05 to 0.09 lower.
SMOOTHING = 0.7  # standard deviation, in finest voxels of the working grid, as for ``geodesic``
BETA = 1000.0  # the penalty of an intensity difference
RADIUS = 6.0  # of a click's ball, in finest voxels of the working grid
TOLERANCE = 20.0  # grey levels that a voxel of the ball may differ from the clicked one
INSIDE, OUTSIDE = 1, 2  # scikit-image's labels; 0 is unknown


class RandomWalker(Segmenter):
    """Random walker segmentation, after Grady (IEEE TPAMI 2006), as scikit-image computes it.

    A voxel is inside if a random walk from it, which rarely crosses edges of the image, is more likely to reach a
    positive click first than a negative one.

    - **The image's border is negative**, as for ``geodesic``, so that one positive click gives a bounded region.
    - **A click is a ball** of voxels that look like the clicked one, as a scribble is in the paper: a random walk in 3D
      hardly ever meets a single voxel. Where balls of both signs overlap, the nearer click counts.
    - A clicked voxel has the label of its newest click.
    - Without a positive click the mask is empty.
    - An image of more than ``MAX_VOXELS``, or longer than ``MAX_SIDE``, is solved on block means (see ``BlockGrid``).
      The probability is interpolated linearly to the image's own grid: memory and time are bounded for any volume.

    It is deterministic and needs no weights. There are no logits.

    Example:
        >>> import numpy as np
        >>> from synthfm_env import Click, make_segmenter
        >>> image = np.zeros((8, 32, 32), np.uint8)
        >>> image[2:6, 8:24, 8:24] = 200
        >>> with make_segmenter("random-walker").start(image, (1.0, 1.0, 1.0)) as session:
        ...     mask = session.add(Click((4, 16, 16))).mask
        >>> bool(mask[4, 16, 16]), bool(mask[0, 0, 0])
        (True, False)
    """

    name = "random-walker"
    capabilities = Capabilities()

    def start(self, image: NDArray, spacing: tuple[float, float, float]) -> "RandomWalkerSession":
        """Open a session, which computes the block means; see ``Segmenter.start``."""
        return RandomWalkerSession(prepare_image(image, spacing), spacing)


class RandomWalkerSession(PromptHistorySession):
    """Session of ``RandomWalker``. Each prompt solves one linear system with all clicks."""

    def __init__(self, image: NDArray[np.uint8], spacing: tuple[float, float, float]) -> None:
        """Average the image over the working grid.

        Args:
            image: uint8 (D, H, W) or (D, H, W, 3), as ``prepare_image`` returns it.
            spacing: (z, y, x) in mm.
        """
        began = time.perf_counter()
        depth, height, width = image.shape[:3]
        shape = (depth, height, width)
        self._grid = BlockGrid(shape, spacing, MAX_VOXELS, MAX_SIDE)
        grey = self._grid.mean(image if image.ndim == 3 else image @ LUMA)
        self._steps = relative_steps(self._grid, spacing)
        self._grey = ndimage.gaussian_filter(grey, SMOOTHING / self._steps)
        super().__init__(RandomWalker.name, RandomWalker.capabilities, shape, time.perf_counter() - began)

    def _answer(self, prompts: Prompt) -> NDArray[np.bool_]:
        if not any(click.positive for click in prompts.clicks):
            return np.zeros(self._shape, dtype=bool)
        mask = self._grid.positive(self._probability(self._seeds(prompts.clicks)) - np.float32(0.5))
        for click in prompts.clicks:
            mask[click.zyx] = click.positive
        return mask

    def _seeds(self, clicks: Sequence[Click]) -> NDArray[np.int8]:
        """Return the labels of blocks that are known, int8 (d, h, w): the border, then a ball around each click."""
        seeds = np.zeros(self._grey.shape, dtype=np.int8)
        seeds[tuple(border_voxels(self._grey.shape).T)] = OUTSIDE
        nearest = np.full(self._grey.shape, np.inf)
        for click in clicks:
            block = self._grid.block_of(click.zyx)
            axes = zip(np.ogrid[tuple(map(slice, self._grey.shape))], block, self._steps, strict=True)
            distance = sum(((index - i) * step) ** 2 for index, i, step in axes)
            alike = np.abs(self._grey - self._grey[block]) <= TOLERANCE
            ball = alike & (distance <= RADIUS**2) & (distance <= nearest)
            nearest[ball] = distance[ball]
            seeds[ball] = INSIDE if click.positive else OUTSIDE
        # A clicked block has the label of its click, even if it is in the ball of another one.
        for click in clicks:
            seeds[self._grid.block_of(click.zyx)] = INSIDE if click.positive else OUTSIDE
        return seeds

    def _probability(self, seeds: NDArray[np.int8]) -> NDArray[np.float32]:
        """Return each block's probability of being inside, float32 (d, h, w)."""
        if not (seeds == INSIDE).any():
            return np.zeros(seeds.shape, dtype=np.float32)
        if not ((seeds == OUTSIDE).any() and (seeds == 0).any()):
            return (seeds != OUTSIDE).astype(np.float32)
        data = self._grey / 255
        if data.min() == data.max():
            # The solver divides by the standard deviation: a ramp too flat to be an edge keeps it above 0.
            data = data + np.linspace(0, 1e-6, data.size).reshape(data.shape)
        with warnings.catch_warnings():
            # The solver stops early. Only an error that moves a probability across one half matters.
            warnings.filterwarnings("ignore", "The probability range is outside", UserWarning)
            warnings.filterwarnings("ignore", "Conjugate gradient convergence", UserWarning)
            both = random_walker(data, seeds, beta=BETA, mode="cg_j", return_full_prob=True, spacing=tuple(self._steps))
        return np.asarray(both[0], dtype=np.float32)
