"""Simulates clicks on synthetic structures, in a pool of episodes that advance one click at a time."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import edt
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from synthfm_env.prompts import Click
from synthfm_env.segmenters.focus import Crop, FocusPolicy, Shape, whole_crop
from synthfm_env.segmenters.volume_network.network_input import GridPrompt
from synthfm_env.segmenters.volume_network.resampling import carry_over, resample

_T = TypeVar("_T")

_FIRST_AT_RANDOM = 0.3  # share of first clicks anywhere in the structure; the others are at its deepest voxel
_JITTERED = 0.1  # share of clicks some voxels off
_DEEPEST = 0.6  # share of later clicks at the deepest voxel of the error; the others at one of half that depth
_DAMAGED = 0.25  # share of episodes that start from a damaged mask
_LEAK = 0.4  # share of damaged masks that hold what is as grey as the structure
_PROPOSED, _SECOND_LOOK = 0.6, 0.4  # shares of answers after which the crop follows the mask; of those, no new click
_REDRAWN = 0.12  # share of answers after which the crop is drawn anew
_FORGOTTEN = 0.2  # share of answers that the next one does not see, so that many clicks are answered afresh as well
_MAX_CLICKS, _FEW_CLICKS = 13, 4
_SHORT = 0.4  # share of episodes of few clicks
_BEYOND = -4.0  # logit of voxels that the crop before did not hold, as in a session


@dataclass(slots=True, eq=False)
class Episode:
    """One structure under simulated clicks.

    Attributes:
        image: uint8 (D, H, W).
        truth: bool (D, H, W).
        spacing: (z, y, x) in mm.
        crop: the part of the image that the network sees.
        clicks: so far, in voxels of the image.
        logits: float32 (d, h, w) of the newest answer, on the crop's grid; None before the first.
        left: clicks still to come.
    """

    image: Tensor
    truth: Tensor
    spacing: tuple[float, float, float]
    crop: Crop
    clicks: list[Click]
    logits: Tensor | None
    left: int
    _view: tuple[Crop, Shape, tuple[Tensor, Tensor, float]] | None = field(default=None, repr=False)

    def view(self, grid: Shape) -> tuple[Tensor, Tensor, float]:
        """Return the crop's image and truth on a grid, and the share of the structure that the crop holds."""
        if self._view is None or self._view[:2] != (self.crop, grid):
            truth = self.truth[self.crop].float()
            share = float(truth.sum()) / max(1.0, float(self.truth.sum()))
            self._view = self.crop, grid, (resample(self.image[self.crop], grid), resample(truth, grid), share)
        return self._view[2]

    def prompt(self, grid: Shape) -> GridPrompt:
        """Return what the network sees of the crop."""
        if self.logits is not None and tuple(self.logits.shape) != grid:
            self.logits = carry_over(self.logits, self.crop, self.crop, grid, _BEYOND)
        places = torch.tensor([click.zyx for click in self.clicks], dtype=torch.float32).reshape(-1, 3)
        starts = torch.tensor([side.start for side in self.crop], dtype=torch.float32)
        lengths = torch.tensor([side.stop - side.start for side in self.crop], dtype=torch.float32)
        places = (places + 0.5 - starts) / lengths * torch.tensor(grid) - 0.5
        return GridPrompt(self.view(grid)[0], self.logits, places, [click.positive for click in self.clicks])

    def move_to(self, crop: Crop) -> None:
        """See another crop; previous logits are carried over."""
        if self.logits is not None:
            shape = self.logits.shape
            self.logits = carry_over(self.logits, self.crop, crop, (shape[0], shape[1], shape[2]), _BEYOND)
        self.crop = crop

    def voxel_at(self, place: NDArray, grid: Shape) -> tuple[int, int, int]:
        """Return the voxel of the image at a voxel of the grid."""
        z, y, x = (
            min(side.stop - 1, int(side.start + (at + 0.5) / n * (side.stop - side.start)))
            for at, n, side in zip(place, grid, self.crop, strict=True)
        )
        return z, y, x

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {
            "image": self.image,
            "truth": torch.from_numpy(np.packbits(self.truth.numpy())),
            "spacing": list(self.spacing),
            "crop": [[side.start, side.stop] for side in self.crop],
            "clicks": [[*click.zyx, int(click.positive)] for click in self.clicks],
            "logits": self.logits,
            "left": self.left,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "Episode":
        """Restore an episode from a checkpoint."""
        shape = tuple(state["image"].shape)
        truth = np.unpackbits(state["truth"].numpy(), count=int(np.prod(shape))).reshape(shape).astype(bool)
        z, y, x = (slice(*side) for side in state["crop"])
        clicks = [Click((k, j, i), bool(positive)) for k, j, i, positive in state["clicks"]]
        dz, dy, dx = state["spacing"]
        return cls(
            state["image"], torch.from_numpy(truth), (dz, dy, dx), (z, y, x), clicks, state["logits"], state["left"]
        )


class EpisodePool:
    """Running episodes; each step takes some of them one click further.

    Which episodes, clicks and crops come next follows from the step's generator, and new structures come from a stream
    that is a function of its position, so a resumed pool goes on exactly as it would have. Each episode draws from a
    child of that generator, so the number of threads changes nothing.
    """

    def __init__(
        self, size: int, policy: FocusPolicy, stream: Callable[[int], Iterator[tuple[Any, int]]], threads: int = 1
    ) -> None:
        """Take sizes and a source of structures.

        Args:
            size: number of episodes.
            policy: chooses crops.
            stream: yields (volume, index of its structure) from a position on.
            threads: episodes that are advanced at a time.
        """
        self._size, self._policy, self._stream = size, policy, stream
        self._threads = ThreadPoolExecutor(threads) if threads > 1 else None
        self._episodes: list[Episode] = []
        self._taken = 0
        self._source: Iterator[tuple[Any, int]] | None = None

    def map(self, function: Callable[..., _T], *arguments: Sequence[Any]) -> list[_T]:
        """Call a function on several sequences, in the pool's threads."""
        return list(self._threads.map(function, *arguments) if self._threads else map(function, *arguments))

    def draw(self, count: int, grid: Shape, rng: np.random.Generator) -> list[Episode]:
        """Return ``count`` episodes, each with at least one click or a mask to start from."""
        missing = self._size - len(self._episodes)
        self._episodes += self._new(grid, rng.spawn(missing))
        self._chosen = sorted(rng.choice(self._size, count, replace=False).tolist())
        return [self._episodes[i] for i in self._chosen]

    def advance(self, logits: Tensor, grid: Shape, rng: np.random.Generator) -> None:
        """Store the answers to the drawn episodes, in their order, and take each one click further."""
        for index, answer in zip(self._chosen, logits, strict=True):
            self._episodes[index].logits = answer
        rngs = rng.spawn(len(self._chosen))
        episodes = [self._episodes[index] for index in self._chosen]
        going_on = self.map(lambda episode, own: self._continue(episode, grid, own), episodes, rngs)
        over = [place for place, goes_on in enumerate(going_on) if not goes_on]
        for place, episode in zip(over, self._new(grid, [rngs[place] for place in over]), strict=True):
            self._episodes[self._chosen[place]] = episode

    def _continue(self, episode: Episode, grid: Shape, rng: np.random.Generator) -> bool:
        """Add a click or change the crop; return False if the episode is over."""
        assert episode.logits is not None
        click = self._next_click(episode, grid, rng)
        if episode.left <= 0 or click is None:
            return False
        # The crop changes as in a session; then sometimes the same clicks are answered again.
        if rng.random() < _PROPOSED:
            mask = (episode.logits > 0).numpy()
            shape = episode.image.shape
            crop = self._policy.proposal(episode.crop, mask, episode.clicks, (shape[0], shape[1], shape[2]))
            if crop is not None:
                episode.move_to(crop)
                if rng.random() < _SECOND_LOOK:
                    return True
        elif rng.random() < _REDRAWN / (1 - _PROPOSED):
            episode.move_to(self._first_crop(episode, rng))
        if rng.random() < _FORGOTTEN:
            episode.logits = None
        episode.clicks.append(click)
        episode.left -= 1
        if not _inside(episode.crop, click):
            shape = episode.image.shape
            extent = [(min(s.start, at), max(s.stop, at + 1)) for s, at in zip(episode.crop, click.zyx, strict=True)]
            episode.move_to(self._policy.fitted(extent, (shape[0], shape[1], shape[2])))
        return True

    def _next_click(self, episode: Episode, grid: Shape, rng: np.random.Generator) -> Click | None:
        """Click into the larger error on the grid, or on what the crop leaves out."""
        assert episode.logits is not None
        _, truth, share = episode.view(grid)
        if rng.random() < (1 - share) * 0.7:
            outside = episode.truth.clone()
            outside[episode.crop] = False
            voxels = outside.nonzero()
            if len(voxels):
                z, y, x = voxels[int(rng.integers(len(voxels)))].tolist()
                return Click((z, y, x))
        inside, mask = (truth > 0.5).numpy(), (episode.logits > 0).numpy()
        steps = [(s.stop - s.start) / n * d for s, n, d in zip(episode.crop, grid, episode.spacing, strict=True)]
        missed, false = _depth(inside & ~mask, steps), _depth(mask & ~inside, steps)
        positive = missed.max() > false.max()
        depth = missed if positive else false
        if depth.max() <= 0:
            return None
        if rng.random() < _DEEPEST:
            place = np.array(np.unravel_index(int(depth.argmax()), grid))
        else:
            place = rng.choice(np.argwhere(depth >= 0.5 * depth.max()))
        if rng.random() < _JITTERED:
            place = np.clip(place + rng.integers(-2, 3, 3), 0, np.array(grid) - 1)
        return Click(episode.voxel_at(place, grid), bool(positive))

    def _new(self, grid: Shape, rngs: Sequence[np.random.Generator]) -> list[Episode]:
        """Begin an episode for each generator."""
        if self._source is None and rngs:
            self._source = self._stream(self._taken)
        structures = [next(self._source) for _ in rngs] if self._source else []
        self._taken += len(structures)
        return self.map(lambda structure, rng: self._begin(structure[0], structure[1], grid, rng), structures, rngs)

    def _begin(self, volume: Any, index: int, grid: Shape, rng: np.random.Generator) -> Episode:
        truth = volume.truths[index]
        first = _first_click(truth, volume.spacing, rng)
        # Many short episodes, since the first click decides which object is meant.
        left = int(rng.integers(0, _FEW_CLICKS if rng.random() < _SHORT else _MAX_CLICKS))
        episode = Episode(volume.image, truth, volume.spacing, whole_crop(tuple(truth.shape)), [first], None, left)
        episode.crop = self._first_crop(episode, rng)
        if rng.random() < _DAMAGED:
            image, inside, _ = episode.view(grid)
            episode.logits = damaged(with_leak(image, inside, rng) if rng.random() < _LEAK else inside, rng)
            click = self._next_click(episode, grid, rng)
            episode.clicks = [click or first]
            if not _inside(episode.crop, episode.clicks[0]):
                episode.move_to(whole_crop(tuple(truth.shape)))
        return episode

    def _first_crop(self, episode: Episode, rng: np.random.Generator) -> Crop:
        """Return a crop as the policy makes them: of any size about the click, around the structure, or all."""
        depth, height, width = episode.image.shape
        shape = (depth, height, width)
        kind = rng.random()
        if kind < 0.45:
            crops = self._policy.first_crops(episode.clicks[0], shape, episode.spacing)
            return crops[int(rng.integers(len(crops)))]
        if kind < 0.9:
            sides = []
            for axis, n in enumerate(shape):
                covered = _covered(episode.truth, axis)
                low, high = int(covered[0]), int(covered[-1]) + 1
                length = high - low
                margins = np.maximum(2, length * rng.uniform(0.15, 1.0, 2)).astype(int)
                cut = (length * rng.uniform(0, 0.4, 2)).astype(int)
                margins = np.where(rng.random(2) < 0.08, -cut, margins)
                low, high = low - int(margins[0]), high + int(margins[1])
                at = episode.clicks[0].zyx[axis]
                sides.append(slice(max(0, min(low, at)), min(n, max(high, at + 1))))
            return sides[0], sides[1], sides[2]
        return whole_crop((shape[0], shape[1], shape[2]))

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"taken": self._taken, "episodes": [episode.state() for episode in self._episodes]}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what ``state`` returned."""
        self._taken, self._source = state["taken"], None
        self._episodes = [Episode.from_state(episode) for episode in state["episodes"]]


def _covered(truth: Tensor, axis: int) -> Tensor:
    others = tuple(other for other in range(3) if other != axis)
    return truth.any(dim=others[1]).any(dim=others[0]).nonzero()[:, 0]


def _inside(crop: Crop, click: Click) -> bool:
    return all(side.start <= at < side.stop for side, at in zip(crop, click.zyx, strict=True))


def _depth(region: NDArray[np.bool_], steps: list[float]) -> NDArray[np.float32]:
    """Return each voxel's distance in mm to the border of a region; an axis of one voxel has no border."""
    axes = [axis for axis in range(3) if region.shape[axis] > 1]
    flat = np.ascontiguousarray(region).reshape([region.shape[axis] for axis in axes]).view(np.uint8)
    depth = edt.edt(flat, anisotropy=tuple(steps[axis] for axis in axes), black_border=True, parallel=1)
    return np.asarray(depth).reshape(region.shape)


def _first_click(truth: Tensor, spacing: tuple[float, float, float], rng: np.random.Generator) -> Click:
    extents = [_covered(truth, axis) for axis in range(3)]
    box = tuple(slice(int(covered[0]), int(covered[-1]) + 1) for covered in extents)
    part = truth[box].numpy()
    if rng.random() < _FIRST_AT_RANDOM:
        place = rng.choice(np.argwhere(part))
    else:
        place = np.array(np.unravel_index(int(_depth(part, list(spacing)).argmax()), part.shape))
    z, y, x = (int(at) + side.start for at, side in zip(place, box, strict=True))
    return Click((z, y, x))


def with_leak(image: Tensor, truth: Tensor, rng: np.random.Generator) -> Tensor:
    """Add to a structure what is about as grey; float32 (d, h, w), 0 to 1.

    Args:
        image: float32 (d, h, w), 0 to 255.
        truth: float32 (d, h, w), 0 to 1.
        rng: draws how alike.
    """
    mean = (image * truth).sum() / truth.sum().clamp(min=1e-3)
    return torch.maximum(truth, ((image - mean).abs() < float(rng.uniform(4, 30))).float())


def damaged(truth: Tensor, rng: np.random.Generator) -> Tensor:
    """Return logits of a mask as another model might draw it: grown, shrunk, shifted, cut or with a false part.

    Args:
        truth: float32 (d, h, w), 0 to 1.
        rng: draws the damage.
    """
    shape = truth.shape
    reach = max(1, int(rng.integers(1, 1 + max(1, min(6, max(shape) // 6)))))
    kernel = tuple(min(2 * reach + 1, 2 * ((n - 1) // 2) + 1) for n in shape)
    padding = tuple(k // 2 for k in kernel)
    smooth = F.avg_pool3d(truth[None, None], kernel, stride=1, padding=padding, count_include_pad=False)[0, 0]
    mask = smooth - float(rng.uniform(0.1, 0.8))
    shift = [int(rng.integers(-n // 12, n // 12 + 1)) for n in shape]
    mask = mask.roll(shift, (0, 1, 2))
    kind = rng.random()
    z, y, x = (torch.linspace(-1, 1, n) if n > 1 else torch.zeros(1) for n in shape)
    if kind < 0.3:  # cut by a plane
        normal = rng.normal(size=3)
        plane = normal[0] * z[:, None, None] + normal[1] * y[:, None] + normal[2] * x
        mask = torch.where(plane.float() > float(rng.normal(0, 0.3)), mask, -1.0)
    elif kind < 0.6:  # a false ball
        at, radius = rng.uniform(-0.7, 0.7, 3), rng.uniform(0.1, 0.5)
        ball = (z - at[0])[:, None, None] ** 2 + (y - at[1])[:, None] ** 2 + (x - at[2]) ** 2 < radius**2
        mask = torch.where(ball, 1.0, mask)
    return (mask * float(rng.uniform(4, 20))).clamp(-8, 8).float()
