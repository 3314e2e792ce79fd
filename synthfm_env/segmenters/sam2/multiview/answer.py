"""Defines an answer: all that follows from the prompts so far, as an immutable value."""

from dataclasses import dataclass

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from synthfm_env.geometry import Crop, spread_indices
from synthfm_env.prompts import Click, Prompt
from synthfm_env.segmenters.sam2.multiview.view import MultiView, States
from synthfm_env.segmenters.volume_network.session import Answer as NetworkAnswer

_OUTSIDE_LOGIT = -32.0  # logit of voxels outside the crop
_PREVIEW_SIDE = 128  # most pixels along a side of the logits in a prediction


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """Answer to all prompts so far, on one crop. It is immutable, so a history of answers makes ``undo`` exact.

    Attributes:
        prompts: oldest first.
        view: of the crop.
        states: of the view's stacks.
        network: the volume network's answer, which the logits contain; None without an ensemble.
        logits: float32 (d, h, w), on a grid that covers the crop evenly.
        threshold: the mask contains what is above it.
    """

    prompts: tuple[Prompt, ...]
    view: MultiView
    states: States
    network: NetworkAnswer | None
    logits: Tensor
    threshold: float

    @property
    def clicks(self) -> tuple[Click, ...]:
        """All clicks so far."""
        return tuple(click for prompt in self.prompts for click in prompt.clicks)

    @property
    def crop(self) -> Crop:
        """The crop of the image that was tracked."""
        return self.view.crop

    @property
    def sparse(self) -> bool:
        """Whether a full view of the crop would have more slices."""
        return self.view.sparse

    @property
    def inside(self) -> NDArray[np.bool_]:
        """Positive logits, which crops are fitted to: bool (d, h, w), on the grid of the logits."""
        return (self.logits > 0).numpy()

    def mask(self, shape: tuple[int, int, int]) -> NDArray[np.bool_]:
        """Return the mask on the image's grid, bool (D, H, W)."""
        return self.on_image_grid(shape)[0]

    def on_image_grid(self, shape: tuple[int, int, int]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Interpolate the logits to the image's grid, sixteen slices at a time.

        Args:
            shape: (D, H, W) of the image.

        Returns:
            The mask, bool (D, H, W), in which clicked voxels have the label of their click; and logits less the
            threshold at a lower in-plane resolution, float32 (D, h, w).
        """
        z, y, x = self.crop
        size = (y.stop - y.start, x.stop - x.start)
        mask = np.zeros(shape, dtype=bool)
        # Pixels of the preview, in the image and in the crop.
        rows, columns = (spread_indices(n, _PREVIEW_SIDE) for n in shape[1:])
        preview = np.full((shape[0], len(rows), len(columns)), _OUTSIDE_LOGIT, dtype=np.float32)
        in_preview = np.ix_((rows >= y.start) & (rows < y.stop), (columns >= x.start) & (columns < x.stop))
        in_crop = np.ix_(rows[in_preview[0][:, 0]] - y.start, columns[in_preview[1][0]] - x.start)
        # Interpolate along z at once, then in the plane by sixteen slices, without a float copy of the whole image.
        depth = (z.stop - z.start, *self.logits.shape[1:])
        along_z = F.interpolate((self.logits - self.threshold)[None, None], size=depth, mode="trilinear")[0]
        for low in range(0, depth[0], 16):
            full = F.interpolate(along_z[:, low : low + 16], size=size, mode="bilinear")[0].numpy()
            slices = slice(z.start + low, z.start + low + len(full))
            mask[slices, y, x] = full > 0
            preview[slices][:, *in_preview] = full[:, *in_crop]
        for click in self.clicks:
            mask[click.zyx] = click.positive
        return mask, preview
