"""Draws clips from SynthFM-3D or real volumes, cut along any plane; each clip follows from its index."""

from collections.abc import Iterator
from itertools import islice
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from synthfm_env.volumes import to_uint8
from synthfm_train.data_worker import start_worker
from synthfm_train.sam2.real_volumes import Side
from synthfm_train.sam2.recipe import Data, Phase

_REPLACEMENT_STRIDE = 10**12  # between the seeds of a volume and of those that replace it
# Slices of a clip are up to 3 apart, or a sixteenth of the volume, as in an overview.
_NEAR, _OVERVIEW = 3, 16
_SHARE_AROUND_OBJECT = 0.4  # of windows
_SHARE_WITH_PIXEL = 0.25  # of windows around one pixel of an object
_LEAST_SIDE = 8  # fewest pixels along a window's side
_GAMMA, _GAIN = 0.3, (0.4, 1.3)  # deviation of log gamma; lowest and highest contrast


class Clips(NamedTuple):
    """K stacks of neighbouring slices of one volume; a batch of V volumes has V before K.

    Attributes:
        frames: uint8 (K, T, S, S).
        labels: int16 (K, T, S, S), the whole label map.
        targets: int16 (K, O), the labels of the objects to segment; each is visible on the first slice.
        seed: of the volume; in a batch, int64 (V,).
    """

    frames: torch.Tensor
    labels: torch.Tensor
    targets: torch.Tensor
    seed: int | torch.Tensor


def masks_of(labels: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the mask of each target, bool (..., O, T, S, S).

    It runs on the labels' device, because masks are much larger than labels to send between processes and to a GPU.

    Args:
        labels: (..., T, S, S).
        targets: (..., O).
    """
    return labels.unsqueeze(-4) == targets[..., None, None, None]


def load_clips(dataset: "ClipDataset", batch: int, *, share: int, shares: int, workers: int) -> Iterator[Clips]:
    """Yield a data set in batches, made ahead by worker processes.

    Args:
        dataset: a whole number of batches.
        batch: volumes in a batch.
        share: the part of each batch to yield, 0 to ``shares`` - 1.
        shares: number of equal parts of a batch.
        workers: number of processes; 0 makes the clips in this one.
    """
    part = batch // shares
    wanted = range(len(dataset))
    loader: DataLoader[Clips] = DataLoader(
        dataset,
        batch_size=part,
        sampler=[i for i in wanted if i % batch // part == share],
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        worker_init_fn=start_worker,
        pin_memory=torch.cuda.is_available(),
    )
    return iter(loader)


class ClipDataset(Dataset[Clips]):
    """Dataset of clips. Those of index i come from the volume of seed ``first + i``, in every worker process."""

    def __init__(self, data: Data, phase: Phase, size: int, first: int, count: int, side: Side = "train") -> None:
        self.data, self.phase, self.size, self.first, self.count = data, phase, size, first, count
        self._generators = data.generators(side)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Clips:
        seed = self.first + index
        rng = np.random.default_rng((seed, 0xC11B))
        for attempt in range(8):
            # A volume may have no slice with an object that is large enough; other volumes replace it.
            volume_seed = seed + attempt * _REPLACEMENT_STRIDE
            volume = self._generators[seed % len(self._generators)].sample(volume_seed)
            assert volume.label is not None
            image = to_uint8(volume.image, volume.modality)
            tries = (self._cut(image, volume.label, rng) for _ in range(4 * self.phase.cuts))
            good = list(islice((cut for cut in tries if cut is not None), self.phase.cuts))
            if len(good) == self.phase.cuts:
                frames, labels, targets = (torch.from_numpy(np.stack(part)) for part in zip(*good, strict=True))
                return Clips(frames, labels, targets, volume_seed)
        raise RuntimeError(f"no clips with objects of {self.data.min_pixels} pixels from seed {seed}")

    def _cut(self, image: NDArray, label: NDArray, rng: np.random.Generator) -> tuple[NDArray, NDArray, NDArray] | None:
        """Return frames, labels and targets of one random clip; None if its first slice has no object large enough."""
        image, label, focus = _random_stack(image, label, self.phase.slices, self.data, rng)
        frames, labels = _resize(image, label, self.size)
        ids, counts = np.unique(labels[0], return_counts=True)
        targets = ids[(ids > 0) & (counts >= self.data.min_pixels)]
        if not len(targets):
            return None
        return _exposed(frames, rng), labels, _pick_targets(targets, self.phase.objects, focus, rng)


def _pick_targets(targets: NDArray, count: int, focus: int, rng: np.random.Generator) -> NDArray:
    """Return ``count`` ids, ``focus`` first. If there are too few, ids repeat, so that all clips have one shape."""
    shuffled = rng.permutation(targets)
    return np.resize(shuffled[np.argsort(shuffled != focus, kind="stable")], count)


def _random_stack(
    image: NDArray, label: NDArray, slices: int, data: Data, rng: np.random.Generator
) -> tuple[NDArray, NDArray, int]:
    """Cut a stack of slices from a volume: random plane, stride, direction, window and flips.

    Args:
        image: uint8 (D, H, W).
        label: int16 (D, H, W).
        slices: number of slices T.
        data: settings of the clips.
        rng: makes the choices.

    Returns:
        Image and label, both (T, h, w), and the label of the object that the window is for, 0 for none.
    """
    # Slices along a random axis.
    axis = int(rng.choice(3, p=(0.5, 0.25, 0.25))) if image.shape[0] > 1 and data.planes == "all" else 0
    image, label = np.moveaxis(image, axis, 0), np.moveaxis(label, axis, 0)
    picked = _random_slices(label, slices, data.direction, rng)
    rows, columns, focus = _random_windows(label[picked], data.zoom, rng)
    # Flips and a transpose within the slices.
    flips = tuple(slice(None, None, -1 if rng.random() < 0.5 else 1) for _ in range(2))
    image, label = image[picked, rows, columns][:, *flips], label[picked, rows, columns][:, *flips]
    if rng.random() < 0.5:
        image, label = image.swapaxes(1, 2), label.swapaxes(1, 2)
    # Not ascontiguousarray: it leaves the negative stride of a side of one pixel, which torch does not take.
    return image.copy(order="C"), label.copy(order="C"), focus


def _random_slices(
    label: NDArray, count: int, direction: Literal["both", "up"], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return ``count`` slices upwards or downwards, adjacent or up to as far apart as in the engine's overview.

    Two thirds of the clips are placed so that a structure ends within them, because tracking must also learn the end of
    objects.
    """
    # Distance between slices: logarithmically uniform, as far as the volume allows.
    depth = label.shape[0]
    farthest = max(_NEAR, depth // _OVERVIEW)
    stride = int(np.exp(rng.uniform(0, np.log(farthest + 1))))
    if count > 1:
        stride = max(1, min(stride, (depth - 1) // (count - 1)))
    span = (count - 1) * stride
    # Place of the first slice, anywhere or so that the end of a random structure is inside.
    up = rng.random() < 0.5 or direction == "up"
    start = int(rng.integers(0, max(1, depth - span)))
    ids = np.unique(label[::4])
    ids = ids[ids > 0]
    if count > 1 and len(ids) and rng.random() < 2 / 3:
        extent = np.flatnonzero((label == rng.choice(ids)).any((1, 2)))
        back = int(rng.integers(0, span))
        start = extent[-1] - back if up else extent[0] + back - span
        start = int(np.clip(start, 0, max(0, depth - 1 - span)))
    picked = np.clip(start + stride * np.arange(count), 0, depth - 1)
    return picked if up else picked[::-1]


def _random_windows(label: NDArray, zoom: tuple[float, float], rng: np.random.Generator) -> tuple[slice, slice, int]:
    """Return rows and columns of a window, and the label of the object that it is for, 0 for none.

    Some windows are around one object, as the engine's crops are. Some contain one pixel of an object and may cut it,
    as a crop that is too small; the mask must then reach the window's sides, so that the engine takes a larger crop.
    The others are anywhere.
    """
    ids = np.unique(label[0])
    ids = ids[ids > 0]
    kind = rng.random() if len(ids) else 1.0
    if kind < _SHARE_AROUND_OBJECT:
        focus = int(rng.choice(ids))
        inside = (label == focus).any(0)
        return _window_around_object(inside.any(1), rng), _window_around_object(inside.any(0), rng), focus
    if kind < _SHARE_AROUND_OBJECT + _SHARE_WITH_PIXEL:
        focus = int(rng.choice(ids))
        y, x = rng.choice(np.argwhere(label[0] == focus))
        return _window_with_pixel(label.shape[1], int(y), rng), _window_with_pixel(label.shape[2], int(x), rng), focus
    share = rng.uniform(*zoom) if rng.random() < 0.6 else 1.0
    rows, columns = (_random_window(n, share, rng) for n in label.shape[1:])
    return rows, columns, 0


def _window_around_object(covered: NDArray[np.bool_], rng: np.random.Generator) -> slice:
    """Return the extent of True with a random margin on either side. A tenth of the sides cut a part of it off."""
    extent = np.flatnonzero(covered)
    low, high = int(extent[0]), int(extent[-1]) + 1
    margins = np.maximum(4, np.round((high - low) * rng.uniform(0.2, 0.9, 2))).astype(int)
    cut = ((high - low) * rng.uniform(0, 0.4, 2)).astype(int)
    margins = np.where(rng.random(2) < 0.1, -cut, margins)
    return slice(max(0, low - int(margins[0])), min(len(covered), high + int(margins[1])))


def _window_with_pixel(length: int, place: int, rng: np.random.Generator) -> slice:
    """Return a window of random size that contains a pixel."""
    side = max(min(length, _LEAST_SIDE), round(length * np.exp(rng.uniform(np.log(0.08), np.log(0.8)))))
    low = int(np.clip(place - int(rng.integers(side)), 0, length - side))
    return slice(low, low + side)


def _random_window(length: int, share: float, rng: np.random.Generator) -> slice:
    """Return a window of a share of a side, anywhere."""
    side = max(min(length, 16), round(length * share))
    low = int(rng.integers(0, length - side + 1))
    return slice(low, low + side)


def _exposed(frames: NDArray, rng: np.random.Generator) -> NDArray:
    """Apply a random gamma and contrast to half of the clips, because intensity windows rarely fit the object."""
    if rng.random() < 0.5:
        return frames
    level = np.linspace(0, 1, 256) ** np.exp(rng.normal(0, _GAMMA))
    middle = level[frames].mean()
    gain = np.exp(rng.uniform(*np.log(_GAIN)))
    spare = np.clip(1 - gain, 0, 1) / 2
    level = middle + gain * (level - middle) + rng.uniform(-spare, spare)
    return np.rint(level.clip(0, 1) * 255).astype(np.uint8)[frames]


def _resize(image: NDArray, label: NDArray, size: int) -> tuple[NDArray, NDArray]:
    """Resize slices (T, h, w) of image and label to (T, size, size); labels by their nearest pixel."""
    frames = F.interpolate(torch.from_numpy(image)[:, None].float(), size=(size, size), mode="bilinear", antialias=True)
    labels = F.interpolate(
        torch.from_numpy(label.astype(np.int16))[:, None].float(), size=(size, size), mode="nearest-exact"
    )
    return frames[:, 0].round().byte().numpy(), labels[:, 0].short().numpy()
