"""The last word on a box: a small 3D network that weighs what the views and the clicks say against the image."""

from collections.abc import Sequence
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from synthfm_env.errors import InputError
from synthfm_env.prompts import Click
from synthfm_env.segmenters.sam2.fast.onednn import onednn_for
from synthfm_env.segmenters.sam2.multiview.click_prior import Evidence
from synthfm_env.segmenters.sam2.multiview.view import Box
from synthfm_env.segmenters.weights_file import fill, read_safetensors

CHANNELS = 9
_WIDTHS = (16, 32, 64)  # at full, half and quarter resolution; multiples of 16 are what CPUs convolve fast
# What is convolved is filled up to sides of a multiple of 4 and at least 12: on fewer than three voxels at quarter
# resolution oneDNN's bfloat16 convolutions give wrong gradients.
_MULTIPLE, _LEAST = 4, 12
_CLICK = 2.0  # standard deviation of a click's blob, in voxels of the grid
_UNLIKELY = -3.0  # logits below which a draft is left as it is, farther than
_MARGIN = 8  # voxels from where it is above
_CONTRAST = 4.0  # grey levels added to the deviation of an image's, so that a flat one shows no noise


class Draft(NamedTuple):
    """What is known of a box after a click, all on one grid (d, h, w) that is spread evenly over the box.

    Attributes:
        box: of the image.
        views: float32 (3, d, h, w): the mean of all views' logits, the lowest and the highest of them.
        evidence: what follows from distances to the clicks.
        grey: float32 (d, h, w), the image, 0 to 255.
        clicks: of the image.
    """

    box: Box
    views: Tensor
    evidence: Evidence
    grey: Tensor
    clicks: Sequence[Click]

    @property
    def logits(self) -> Tensor:
        """What holds unrefined: the mean of the views, and what the clicks say themselves."""
        return self.views[0] + self.evidence.logits

    def channels(self) -> Tensor:
        """Return what the network sees, float32 (CHANNELS, d, h, w), all about -2 to 2.

        The draft, the three of the views, evidence far from and near to clicks, the clicks, the image less its mean,
        and less the mean of the part that the draft takes for the object.
        """
        logits = self.logits
        spread = self.grey.std(correction=0) + _CONTRAST
        inside = logits > 0
        like = self.grey[inside].mean() if bool(inside.any()) else self.grey.mean()
        return torch.stack(
            (
                logits.clamp(-16, 16) / 8,
                *(self.views / 8),
                self.evidence.far,
                self.evidence.near,
                self._blobs(),
                (self.grey - self.grey.mean()) / spread,
                ((self.grey - like) / spread).clamp(-3, 3),
            )
        )

    def _blobs(self) -> Tensor:
        """Return blobs around the clicks, 1 at a positive and -1 at a negative one."""
        blobs = torch.zeros((2, *self.grey.shape))
        for click, place in zip(self.clicks, self.places(), strict=True):
            away = [torch.arange(n) - at for n, at in zip(self.grey.shape, place, strict=True)]
            z, y, x = (torch.exp(-(one**2) / (2 * _CLICK**2)) for one in away)
            blob = z[:, None, None] * y[:, None] * x
            into = blobs[0 if click.positive else 1]
            torch.maximum(into, blob.float(), out=into)
        return blobs[0] - blobs[1]

    def places(self) -> NDArray[np.float64]:
        """Return where the clicks lie on the grid, (n, 3)."""
        at = np.array([click.zyx for click in self.clicks], dtype=np.float64).reshape(-1, 3)
        starts, sizes = np.array([(side.start, side.stop - side.start) for side in self.box]).T
        return np.asarray((at + 0.5 - starts) / sizes * self.grey.shape - 0.5)

    def likely(self) -> tuple[slice, slice, slice]:
        """Return the part of the grid in which the object may end: around the draft and the clicks in the box."""
        likely = self.logits > _UNLIKELY
        at = np.rint(self.places()).astype(int)
        at = at[((at >= 0) & (at < self.grey.shape)).all(1)]
        sides = []
        for axis, n in enumerate(self.grey.shape):
            covered = torch.nonzero(likely.any(dim=tuple(other for other in range(3) if other != axis)))[:, 0].tolist()
            first, last = (f([*covered, *at[:, axis].tolist()], default=0) for f in (min, max))
            sides.append(slice(max(0, first - _MARGIN), min(n, last + 1 + _MARGIN)))
        return sides[0], sides[1], sides[2]


class Refines(Protocol):
    """What has the last word on drafts: a ``Refiner``, or something that watches one."""

    def refine(self, draft: Draft) -> Tensor:
        """Return final logits, float32 (d, h, w), on the CPU."""


class _Conv3d(nn.Conv3d):
    """A convolution that oneDNN does on a CPU whatever the shape.

    Where batch, channels, depth and height multiply to less than 20481 torch does it in a way of its own, which takes
    up to ten times as long on the flat or small boxes that objects have.
    """

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if torch.is_grad_enabled() or not onednn_for(x):
            return super()._conv_forward(x, weight, bias)
        assert not isinstance(self.padding, str)
        done: Tensor = torch.mkldnn_convolution(x, weight, bias, self.padding, self.stride, self.dilation, self.groups)
        return done


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = (_Conv3d(width, width, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.second(F.relu(self.first(x)))
        return F.relu(x + added)


class Refiner(nn.Module):
    """A 3D U-Net of three resolutions and 0.6 million parameters that adds to a draft's logits.

    It sees no more than a box, on a grid of at most twice a mask's pixels along a side: enough to weigh three flat
    views against each other, against distances and against the edges of the image, which SAM 2's masks are too coarse
    for.
    """

    def __init__(self) -> None:
        super().__init__()
        pairs = list(pairwise(_WIDTHS))
        self.stem = _Conv3d(CHANNELS, _WIDTHS[0], 3, padding=1)
        self.down = nn.ModuleList(_Conv3d(fine, coarse, 2, stride=2) for fine, coarse in pairs)
        self.encode = nn.ModuleList(_Residual(width) for width in _WIDTHS)
        self.bottom = _Residual(_WIDTHS[-1])
        self.up = nn.ModuleList(nn.ConvTranspose3d(coarse, fine, 2, stride=2) for fine, coarse in pairs)
        self.decode = nn.ModuleList(_Residual(width) for width in _WIDTHS[:-1])
        self.head = _Conv3d(_WIDTHS[0], 1, 1)
        for parameter in self.head.parameters():
            nn.init.zeros_(parameter)  # untrained it changes nothing
        for module in self.modules():
            if isinstance(module, _Conv3d):
                module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last_3d)

    def forward(self, channels: Tensor) -> Tensor:
        """Return what to add to the logits.

        Args:
            channels: float32 (B, CHANNELS, d, h, w), any sides.

        Returns:
            float32 (B, d, h, w).
        """
        size = channels.shape[2:]
        padding = [end for n in reversed(size) for end in (0, max(_LEAST - n, -n % _MULTIPLE))]
        x = F.relu(self.stem(F.pad(channels, padding, mode="replicate")))
        fine = []
        for i, encode in enumerate(self.encode):
            x = encode(F.relu(self.down[i - 1](x)) if i else x)
            fine.append(x)
        x = self.bottom(x)
        for i in reversed(range(len(self.up))):
            x = self.decode[i](F.relu(self.up[i](x) + fine[i]))
        added: Tensor = self.head(x)[:, 0, : size[0], : size[1], : size[2]]
        return 4 * added

    def refine(self, draft: Draft) -> Tensor:
        """Return a draft's logits, refined where the object may end; float32 (d, h, w), on the CPU."""
        logits, part = draft.logits, draft.likely()
        channels = draft.channels()[:, *part][None].to(self.head.weight.device)
        logits[part] += self(channels.contiguous(memory_format=torch.channels_last_3d))[0].float().cpu()
        return logits


def load_refiner(path: Path | None = None) -> Refiner:
    """Return the packaged refiner, or one that ``synthfm train`` wrote, in evaluation mode, on the CPU.

    Raises:
        InputError: the file is missing or damaged, or holds something else.
    """
    if path is None:
        path = Path(str(files("synthfm_env") / "weights" / "synthfm3d-refiner.safetensors"))
    if not path.is_file():
        raise InputError(
            f"weights {str(path)!r} do not exist; give weights that `synthfm train synthfm3d-refiner` wrote"
        )
    return fill(Refiner(), read_safetensors(path)[1], path).eval()
