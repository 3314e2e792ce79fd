"""Generates synthetic training volumes with structures to segment, each from its index alone."""

from typing import NamedTuple

import cc3d
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from synthfm_env.segmenters.volume_network.resampling import resample
from synthfm_env.synthesis import SynthFM3D
from synthfm_env.volumes import Volume, to_uint8

_FAR = 10**12  # stand-ins for volumes without a structure come from seeds that far away
# Shares of targets that are two neighbours together, a connected region of even grey, a part of a structure, and a blob
# that the image does not show. The last two have borders that only clicks can tell, as many real structures have.
_UNION, _REGION, _PART, _BLOB = 0.08, 0.08, 0.1, 0.15
_LEAST, _MOST = 40, 0.15  # voxels of a region or blob at least, share of the volume at most
_RADII = (0.04, 0.25)  # of a blob, as shares of the volume's longest side in mm
_GAMMA, _GAIN = 0.35, (0.25, 1.3)  # spread of log gamma; least and most contrast
_NOISE, _BLUR = 0.3, 0.15  # shares of volumes with more noise and with blur
_NOISE_LEVELS = (2.0, 30.0)  # grey levels
_FADED = 0.3  # share of volumes whose borders fade: clicks alone then tell where a structure ends


class TrainingVolume(NamedTuple):
    """One volume and some structures of it.

    Attributes:
        image: uint8 (D, H, W).
        truths: bool (n, D, H, W), one structure each.
        spacing: (z, y, x) in mm.
        seed: of the volume.
    """

    image: Tensor
    truths: Tensor
    spacing: tuple[float, float, float]
    seed: int


class TrainingVolumes(Dataset[TrainingVolume]):
    """Volume i comes from seed ``first + i``, whichever worker makes it."""

    def __init__(
        self, generators: list[SynthFM3D], *, first: int, count: int, structures: int, min_voxels: int
    ) -> None:
        """Take generators that take turns, the first seed, and how many structures of which size each volume gives."""
        self._generators, self._first, self._count = generators, first, count
        self._structures, self._min_voxels = structures, min_voxels

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> TrainingVolume:
        seed = self._first + index
        rng = np.random.default_rng((seed, 0x0E75))
        generator = self._generators[seed % len(self._generators)]
        for attempt in range(8):
            volume = generator.sample(seed + attempt * _FAR)
            assert volume.label is not None
            ids, counts = np.unique(volume.label, return_counts=True)
            ids = ids[(ids > 0) & (counts >= self._min_voxels)]
            if len(ids):
                break
        else:
            raise RuntimeError(f"no structure of {self._min_voxels} voxels in the volumes of seed {seed}")
        image = to_uint8(volume.image, volume.modality)
        chosen = rng.permutation(ids)[: self._structures]
        targets = (_target(image, volume, int(i), rng) for i in np.resize(chosen, self._structures))
        truths = np.stack(list(targets))
        order, flips = _symmetry(image.shape, rng)
        image = augment(image, rng).transpose(order)[flips].copy()
        truths = truths.transpose(0, *(axis + 1 for axis in order))[:, *flips].copy()
        spacing = tuple(volume.spacing[axis] for axis in order)
        return TrainingVolume(
            torch.from_numpy(image), torch.from_numpy(truths), (spacing[0], spacing[1], spacing[2]), seed
        )


def _target(image: NDArray[np.uint8], volume: Volume, structure: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return a structure, or something that is none; see the shares above."""
    label = volume.label
    assert label is not None
    truth: NDArray[np.bool_] = label == structure
    kind = rng.random()
    other = None
    if kind < _UNION:
        neighbours = _neighbours(label, truth)
        return truth | (label == rng.choice(neighbours)) if len(neighbours) else truth
    if kind < _UNION + _REGION:
        other = _even_region(image, rng.choice(np.argwhere(truth)), rng)
    elif kind < _UNION + _REGION + _PART:
        other = _part(truth, volume.spacing, rng)
    elif kind < _UNION + _REGION + _PART + _BLOB:
        other = _blob(image.shape, volume.spacing, rng)
    return truth if other is None or not _LEAST <= np.count_nonzero(other) <= _MOST * other.size else other


def _part(truth: NDArray[np.bool_], spacing: tuple[float, float, float], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return what a random plane through a structure leaves of it."""
    places = np.argwhere(truth)
    side = (places * spacing) @ rng.normal(size=3)
    part = np.zeros_like(truth)
    part[tuple(places[side > np.quantile(side, rng.uniform(0.25, 0.75))].T)] = True
    return part


def _blob(shape: tuple[int, ...], spacing: tuple[float, float, float], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return an ellipsoid with a smoothly bent surface, anywhere in the volume."""
    longest = max(n * step for n, step in zip(shape, spacing, strict=True))
    radii = np.exp(rng.uniform(*np.log(_RADII)) + rng.normal(0, 0.25, 3)) * longest / np.array(spacing)
    centre = np.array([rng.uniform(0, n) for n in shape])
    box = tuple(
        slice(max(0, int(at - 1.5 * r)), min(n, int(at + 1.5 * r) + 2))
        for at, r, n in zip(centre, radii, shape, strict=True)
    )
    z, y, x = ((np.arange(side.start, side.stop) - at) / r for side, at, r in zip(box, centre, radii, strict=True))
    distance = np.sqrt(z[:, None, None] ** 2 + y[:, None] ** 2 + x**2)
    bends = torch.from_numpy(rng.normal(0, 0.2, (5, 5, 5)))
    d, h, w = distance.shape
    blob = np.zeros(shape, dtype=bool)
    blob[box] = distance + resample(bends, (d, h, w)).numpy() < 1
    return blob


def _neighbours(label: NDArray, truth: NDArray[np.bool_]) -> NDArray:
    """Return the ids of structures that touch one."""
    found = set()
    for axis in range(3):
        for step in (-1, 1):
            found |= set(np.unique(label[np.roll(truth, step, axis) & ~truth]).tolist())
    return np.array(sorted(found - {0}))


def _even_region(image: NDArray[np.uint8], place: NDArray, rng: np.random.Generator) -> NDArray[np.bool_]:
    smooth = F.avg_pool3d(F.pad(torch.from_numpy(image)[None, None].float(), (1,) * 6, mode="replicate"), 3, stride=1)[
        0, 0
    ].numpy()
    band = np.abs(smooth - smooth[tuple(place)]) < rng.uniform(6, 25)
    parts = cc3d.connected_components(band, connectivity=6)
    return np.asarray(parts == parts[tuple(place)])


def _symmetry(shape: tuple[int, ...], rng: np.random.Generator) -> tuple[list[int], tuple[slice, ...]]:
    """Return an order of the axes and a direction for each; the thin axis of a flat volume stays first."""
    flat = shape[0] * 8 <= min(shape[1:])
    order = [0, *(1 + rng.permutation(2))] if flat else list(rng.permutation(3))
    return [int(axis) for axis in order], tuple(slice(None, None, -1 if rng.random() < 0.5 else 1) for _ in range(3))


def augment(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Bend, stretch or invert grey levels; blur some volumes and add noise to some."""
    level = np.linspace(0, 1, 256)
    if rng.random() < 0.6:
        level = level ** np.exp(rng.normal(0, _GAMMA))
        gain = np.exp(rng.uniform(*np.log(_GAIN)))
        middle = level[image[:: max(1, image.shape[0] // 8)]].mean()
        spare = np.clip(1 - gain, 0, 1) / 2
        level = middle + gain * (level - middle) + rng.uniform(-spare, spare)
    if rng.random() < 0.2:
        level = 1 - level
    grey = (level.clip(0, 1) * 255).astype(np.float32)[image]
    if rng.random() < _BLUR:
        kernel = (1 if image.shape[0] < 8 else 3, 3, 3)
        padding = tuple(k // 2 for k in kernel)
        grey = F.avg_pool3d(
            torch.from_numpy(grey)[None, None], kernel, stride=1, padding=padding, count_include_pad=False
        )[0, 0].numpy()
    if rng.random() < _FADED:
        coarse = resample(torch.from_numpy(grey), _shrunk(image.shape, float(rng.uniform(4, 10))))
        smooth = resample(coarse, (image.shape[0], image.shape[1], image.shape[2])).numpy()
        grey = grey + float(rng.uniform(0.5, 1)) * (smooth - grey)
    if rng.random() < _NOISE:
        sigma = np.exp(rng.uniform(*np.log(_NOISE_LEVELS)))
        grey = grey + sigma * rng.standard_normal(image.shape, dtype=np.float32)
    return np.rint(grey.clip(0, 255)).astype(np.uint8)


def _shrunk(shape: tuple[int, ...], factor: float) -> tuple[int, int, int]:
    d, h, w = (max(1, round(n / factor)) for n in shape)
    return d, h, w
