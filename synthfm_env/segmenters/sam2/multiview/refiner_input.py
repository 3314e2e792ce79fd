"""Builds the input channels of the refiner: views, click prior, image and clicks."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synthfm_env.geometry import Crop
from synthfm_env.prompts import Click
from synthfm_env.segmenters.sam2.multiview.click_prior import ClickPrior
from synthfm_env.segmenters.sam2.multiview.confidence import CERTAIN_LOGIT

CHANNELS = 9
IMAGE_CHANNELS = 2  # the last channels, which show the image
_CLICK_WIDTH = 2.0  # standard deviation of a click's blob, in voxels of the grid
BACKGROUND_LOGIT = -3.0  # refine only where the unrefined logit exceeds this ...
_REFINE_MARGIN = 8  # ... and in a margin of this many voxels of the grid
_CONTRAST = 4.0  # grey levels added to the deviation, so that the noise of a flat image is not amplified


class RefinerInput(NamedTuple):
    """Views, click prior, image and clicks of a crop, on one grid (d, h, w) that covers the crop evenly.

    Attributes:
        crop: of the image.
        views: float32 (3, d, h, w): the mean of all views' logits, the lowest and the highest of them.
        prior: from distances to the clicks.
        grey: float32 (d, h, w), the image, 0 to 255.
        clicks: of the image.
    """

    crop: Crop
    views: Tensor
    prior: ClickPrior
    grey: Tensor
    clicks: Sequence[Click]

    @property
    def logits(self) -> Tensor:
        """The unrefined logits: the mean of the views plus the click prior."""
        return self.views[0] + self.prior.logits

    def channels(self) -> Tensor:
        """Return the network's input, float32 (CHANNELS, d, h, w), with values of about -2 to 2.

        Channels: the unrefined logits; mean, lowest and highest logits of the views; both terms of the prior; blobs at
        the clicks; the image minus its mean; the image minus its mean inside the unrefined mask.
        """
        logits = self.logits
        spread = self.grey.std(correction=0) + _CONTRAST
        inside = logits > 0
        grey_inside = self.grey[inside].mean() if bool(inside.any()) else self.grey.mean()
        return torch.stack(
            (
                logits.clamp(-2 * CERTAIN_LOGIT, 2 * CERTAIN_LOGIT) / CERTAIN_LOGIT,
                *(self.views / CERTAIN_LOGIT),
                self.prior.far,
                self.prior.near,
                self._blobs(),
                (self.grey - self.grey.mean()) / spread,
                ((self.grey - grey_inside) / spread).clamp(-3, 3),
            )
        )

    def _blobs(self) -> Tensor:
        """Return blobs around the clicks, 1 at a positive and -1 at a negative one."""
        blobs = torch.zeros((2, *self.grey.shape))
        for click, place in zip(self.clicks, self.click_places(), strict=True):
            offsets = [torch.arange(n) - at for n, at in zip(self.grey.shape, place, strict=True)]
            z, y, x = (torch.exp(-(offset**2) / (2 * _CLICK_WIDTH**2)) for offset in offsets)
            blob = z[:, None, None] * y[:, None] * x
            into = blobs[0 if click.positive else 1]
            torch.maximum(into, blob.float(), out=into)
        return blobs[0] - blobs[1]

    def click_places(self) -> NDArray[np.float64]:
        """Return the clicks in voxels of the grid, float64 (n, 3)."""
        at = np.array([click.zyx for click in self.clicks], dtype=np.float64).reshape(-1, 3)
        starts, sizes = np.array([(side.start, side.stop - side.start) for side in self.crop]).T
        return np.asarray((at + 0.5 - starts) / sizes * self.grey.shape - 0.5)

    def object_extent(self) -> tuple[slice, slice, slice]:
        """Return the part of the grid that is refined: around unrefined logits and the clicks in the crop."""
        likely = self.logits > BACKGROUND_LOGIT
        at = np.rint(self.click_places()).astype(int)
        at = at[((at >= 0) & (at < self.grey.shape)).all(1)]
        sides = []
        for axis, n in enumerate(self.grey.shape):
            covered = torch.nonzero(likely.any(dim=tuple(other for other in range(3) if other != axis)))[:, 0].tolist()
            first, last = (f([*covered, *at[:, axis].tolist()], default=0) for f in (min, max))
            sides.append(slice(max(0, first - _REFINE_MARGIN), min(n, last + 1 + _REFINE_MARGIN)))
        return sides[0], sides[1], sides[2]
