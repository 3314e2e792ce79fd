"""Candidate clicks for policies that choose among a few: where they are, and features of each.

Oracle candidates come from the errors of a mask, blind ones from the mask, the logits and the image alone.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

import cc3d
import edt
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from synthfm_env.error_regions import ISOTROPIC, Voxel, as_voxel, bounding_box, deepest
from synthfm_env.prompts import Click

FEATURES: Final = (
    "sign",
    "depth_mm",
    "depth_voxels",
    "depth_share",
    "region_volume",
    "region_share",
    "from_positive",
    "from_negative",
    "mean_logit",
    "grey_from_positive",
    "grey_from_negative",
    "grey_spread",
    "border_mm",
    "mask_volume",
    "clicks_left",
    "score",
)
"""Names of the features of a candidate, see ``Candidates``."""

LIMIT: Final = 16.0
"""Features are clipped to this size."""

_NEAR = 0.35  # of the structure's radius: candidates of one kind are at least so far apart
_FAR = 4.0  # radii; a distance to clicks that do not exist
_MAX_LOGIT = 8.0
_MARGIN = 8  # voxels around the mask in which blind candidates are searched

Spacing = tuple[float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """What candidates are made from.

    Attributes:
        image: uint8 (D, H, W).
        mask: bool (D, H, W), the segmenter's answer so far.
        clicks: in force, oldest first.
        spacing: voxel size (z, y, x) in mm.
        logits: float32 (D, h, w) of the answer, above 0 inside, at any in-plane resolution; None if there are none.
        clicks_left: share of the clicks that is left, 0 to 1.
        truth: bool (D, H, W), for oracles; None for blind candidates.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    clicks: tuple[Click, ...]
    spacing: Spacing
    logits: NDArray[np.float32] | None = None
    clicks_left: float = 1.0
    truth: NDArray[np.bool_] | None = None

    @property
    def radius(self) -> float:
        """Radius, in mm, of a ball of the truth's volume; of the mask's volume if the truth is not known."""
        voxels = np.count_nonzero(self.mask if self.truth is None else self.truth)
        return float((3 / (4 * np.pi) * max(int(voxels), 1) * float(np.prod(self.spacing))) ** (1 / 3))


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Clicks to choose from, best guess first.

    Attributes:
        clicks: at most as many as were asked for.
        features: float32 (n, len(FEATURES)), a row for each click:

            - sign: 1 positive, -1 negative;
            - depth_mm, depth_voxels: distance to the border of the candidate's region, log(1 + d); the region is the
              error component of an oracle, the mask or what is outside it of a blind candidate; depth_share: the same
              in radii of the structure;
            - region_volume: log10 of its mm³; region_share: of the truth's (blind: the mask's) volume, at most 2;
            - from_positive, from_negative: distance to the nearest click of that sign, in radii, at most 4;
            - mean_logit: over 3³ voxels, -1 to 1 for -8 to 8; without logits, as for all oracles of this project, 1
              inside the mask and -1 outside;
            - grey_from_positive, grey_from_negative: difference of the grey of 3³ voxels to that at the nearest such
              click, in deviations of the image; grey_spread: their deviation, in the same unit;
            - border_mm: oracles: distance to the truth's border, log(1 + d); blind: to the mask's;
            - mask_volume: log10 of its mm³; clicks_left;
            - score: oracles: Dice of the mask; blind: 0.
    """

    clicks: tuple[Click, ...]
    features: NDArray[np.float32]


def oracle_candidates(scene: Scene, count: int) -> Candidates:
    """Propose the deepest points of the largest errors.

    First the points of ``synthfm-mm-v1``'s and ``ritm-3d-v1``'s rules (the deepest in mm and in voxels), then the
    deepest point in mm of each error component (26 neighbours) by size, then further deep points of the largest ones.
    No voxel comes twice, none that was clicked.

    Args:
        scene: with the truth.
        count: how many at most, 1 or more.
    """
    truth = scene.truth
    assert truth is not None
    missed, false = truth & ~scene.mask, scene.mask & ~truth
    regions = [_Region(part, scene, positive) for part, positive in ((missed, True), (false, False))]
    chosen: dict[Voxel, tuple[_Region, int]] = {}
    clicked = [click.zyx for click in scene.clicks]
    for spacing in (scene.spacing, ISOTROPIC):
        found = [(deepest(region.whole, clicked, spacing), region) for region in regions]
        best, region = max(found, key=lambda pair: pair[0].distance)
        if best.distance > 0:
            chosen.setdefault(best.zyx, (region, region.component_at(best.zyx)))
    peaks = [(size, region, component) for region in regions for component, size in region.sizes()]
    for take in range(count):  # the deepest point of each component first, then second ones, and so on
        for _, region, component in sorted(peaks, key=lambda peak: -peak[0])[:count]:
            if len(chosen) >= count:
                break
            if sum(owner == (region, component) for owner in chosen.values()) > take:
                continue  # a rule's point is the component's first one
            voxel = region.peak(component, take, [*clicked, *chosen], _NEAR * scene.radius)
            if voxel is not None:
                chosen.setdefault(voxel, (region, component))
    rows = list(chosen.items())[:count]
    border = _border_mm(truth, scene.spacing)
    return _described(
        scene,
        [Click(voxel, region.positive) for voxel, (region, _) in rows],
        [(*region.depth_at(voxel), region.volume(component)) for voxel, (region, component) in rows],
        border,
        _dice(scene.mask, truth),
    )


def blind_candidates(scene: Scene, count: int) -> Candidates:
    """Propose clicks from image, mask and logits alone, five kinds in turn.

    1. Grow: positive, outside the mask and near it, of a grey like that at the positive clicks.
    2. Cut: negative, in the mask, of another grey.
    3. Hold: positive, deep in the mask, far from all clicks and of a like grey.
    4. Wall: negative, just outside the mask, far from all clicks and of another grey.
    5. Doubt: the voxel of which the segmenter is least sure, with either sign; without logits the one nearest to the
       mask's border.

    Greys are means of 3³ voxels, in deviations of the image. Points of one kind are at least a third of the mask's
    radius apart from each other and from the clicks.

    Args:
        scene: its truth is not read.
        count: how many at most, 1 or more.
    """
    scene = replace(scene, truth=None)
    reach = [max(_MARGIN, int(np.ceil(scene.radius / mm))) for mm in scene.spacing]
    box = bounding_box(scene.mask, max(reach))
    if box is None:
        return Candidates((), np.zeros((0, len(FEATURES)), np.float32))
    mask, corner, radius = scene.mask[box], np.array([side.start for side in box]), scene.radius
    inside, outside = _distances(mask, scene.spacing)
    logits = _at_full_size(scene, box, inside - outside)
    far = _distance_to(mask.shape, [np.subtract(click.zyx, corner) for click in scene.clicks], scene.spacing)
    unlike = _unlike(scene, box)
    far = np.where(far < _NEAR * radius, -np.inf, np.minimum(far / radius, 1.0))
    depth, gap = np.minimum(inside / radius, 0.5), outside / radius
    kinds: tuple[tuple[NDArray[np.floating], tuple[bool, ...]], ...] = (
        (np.where(~mask & (gap < 1), np.minimum(far, 0) - unlike - gap, -np.inf), (True,)),
        (np.where(mask, np.minimum(far, 0) + unlike + depth, -np.inf), (False,)),
        (np.where(mask, far + 2 * depth - unlike, -np.inf), (True,)),
        (np.where(~mask & (gap < 0.5), far + unlike - gap, -np.inf), (False,)),
        (np.minimum(far, 0) - np.abs(logits), (True, False)),
    )
    streams = [_peaks(score, scene.spacing, _NEAR * radius) for score, _ in kinds]
    chosen: dict[tuple[Voxel, bool], None] = {}  # keeps the order
    exhausted = False
    while len(chosen) < count and not exhausted:
        exhausted = True
        for stream, (_, signs) in zip(streams, kinds, strict=True):
            place = next(stream, None) if len(chosen) < count else None
            if place is not None:
                exhausted = False
                chosen |= dict.fromkeys((as_voxel(np.add(place, corner)), positive) for positive in signs)
    picked = list(chosen)[:count]
    step = float(max(scene.spacing))
    volume = float(np.count_nonzero(mask) * np.prod(scene.spacing))
    depths = [float(max(inside[at], outside[at])) for at in (_inner(voxel, corner) for voxel, _ in picked)]
    measures = [(depth, depth / step, volume) for depth in depths]
    border = _field(inside + outside, corner)
    return _described(scene, [Click(voxel, positive) for voxel, positive in picked], measures, border, 0.0)


def _unlike(scene: Scene, box: tuple[slice, slice, slice]) -> NDArray[np.float64]:
    """Return how far the grey of each voxel of a box is from that at the nearest-grey positive click, at most 2."""
    deviation = max(float(scene.image[::2, ::2, ::2].std()), 4.0)
    smooth = ndimage.uniform_filter(scene.image[box].astype(np.float32), 3, mode="nearest")
    greys = [_grey(scene.image, click.zyx)[0] for click in scene.clicks if click.positive]
    if not greys:
        return np.zeros(smooth.shape)
    return np.minimum(np.min([np.abs(smooth - grey) for grey in greys], axis=0) / deviation, 2.0)


class _Region:
    """The missed or the false voxels of a mask, with their components and depths; arrays cover the region's box."""

    def __init__(self, whole: NDArray[np.bool_], scene: Scene, positive: bool) -> None:
        self.whole, self.positive, self._scene = whole, positive, scene
        box = bounding_box(whole)
        self._corner = np.array([0, 0, 0] if box is None else [side.start for side in box])
        crop = whole[:0, :0, :0] if box is None else whole[box]
        # The margin is for cc3d 4.1.1, which fails on some boxes one voxel wide.
        padded = cc3d.connected_components(np.pad(crop, 1), connectivity=26) if crop.size else np.zeros((2, 2, 2), int)
        self._labels = padded[1:-1, 1:-1, 1:-1]
        self._sizes = np.bincount(self._labels.ravel(), minlength=1)
        self._mm = _depth(crop, whole.shape, scene.spacing)
        self._voxels = _depth(crop, whole.shape, ISOTROPIC)

    def sizes(self) -> Iterator[tuple[int, int]]:
        """Yield each component with its voxels."""
        return ((component, int(size)) for component, size in enumerate(self._sizes) if component and size)

    def component_at(self, voxel: Voxel) -> int:
        return int(self._labels[_inner(voxel, self._corner)])

    def volume(self, component: int) -> float:
        return float(self._sizes[component] * np.prod(self._scene.spacing))

    def depth_at(self, voxel: Voxel) -> tuple[float, float]:
        at = _inner(voxel, self._corner)
        return float(self._mm[at]), float(self._voxels[at])

    def peak(self, component: int, rank: int, taken: list[Voxel], apart: float) -> Voxel | None:
        """Return the deepest voxel of a component, for ranks above 0 one that is far from those taken; None if none."""
        depth = np.where(self._labels == component, self._mm, 0)
        for voxel in taken:
            at = np.subtract(voxel, self._corner)
            if rank:
                depth[_distance_to(depth.shape, [at], self._scene.spacing) < apart] = 0
            elif (at >= 0).all() and (at < depth.shape).all():
                depth[tuple(at)] = 0
        if not depth.size or depth.max() <= 0:
            return None
        return as_voxel(np.add(np.unravel_index(int(depth.argmax()), depth.shape), self._corner))


def _peaks(score: NDArray[np.floating], spacing: Spacing, apart: float) -> Iterator[Voxel]:
    """Yield voxels by falling score, each at least ``apart`` mm from those before; -inf is no candidate."""
    score = score.copy()
    while np.isfinite(best := score.max(initial=-np.inf)):
        place = as_voxel(np.array(np.unravel_index(int(np.argmax(score == best)), score.shape)))
        yield place
        score[_distance_to(score.shape, [np.array(place)], spacing) < apart] = -np.inf
        score[place] = -np.inf


def _described(
    scene: Scene,
    clicks: list[Click],
    measures: list[tuple[float, float, float]],
    border: Callable[[Voxel], float],
    score: float,
) -> Candidates:
    """Return candidates with their features; ``measures`` are depth in mm and in voxels, and the region's mm³."""
    voxel_mm3, radius = float(np.prod(scene.spacing)), scene.radius
    mask_mm3 = np.count_nonzero(scene.mask) * voxel_mm3
    whole_mm3 = 4 / 3 * np.pi * radius**3
    deviation = max(float(scene.image[::2, ::2, ::2].std()), 4.0)
    rows = []
    for click, (depth_mm, depth_voxels, volume) in zip(clicks, measures, strict=True):
        grey, spread = _grey(scene.image, click.zyx)
        differences = [_nearest(scene, click.zyx, positive) for positive in (True, False)]
        rows.append(
            (
                1.0 if click.positive else -1.0,
                np.log1p(depth_mm),
                np.log1p(depth_voxels),
                depth_mm / radius,
                np.log10(1 + volume),
                min(volume / whole_mm3, 2.0),
                *(min(distance / radius, _FAR) for distance, _ in differences),
                _mean_logit(scene, click.zyx),
                *((grey - other) / deviation if other is not None else 0.0 for _, other in differences),
                spread / deviation,
                np.log1p(border(click.zyx)),
                np.log10(1 + mask_mm3),
                scene.clicks_left,
                score,
            )
        )
    features = np.array(rows, np.float32).reshape(len(rows), len(FEATURES))
    return Candidates(tuple(clicks), features.clip(-LIMIT, LIMIT))


def _around(voxel: Voxel, shape: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(max(0, i - 1), min(n, i + 2)) for i, n in zip(voxel, shape, strict=True))


def _grey(image: NDArray[np.uint8], voxel: Voxel) -> tuple[float, float]:
    part = image[_around(voxel, image.shape)]
    return float(part.mean()), float(part.std())


def _nearest(scene: Scene, voxel: Voxel, positive: bool) -> tuple[float, float | None]:
    """Return the distance in mm to the nearest click of a sign, and the grey there; infinite and None without one."""
    found = [
        (float(np.linalg.norm(np.subtract(click.zyx, voxel) * scene.spacing)), click.zyx)
        for click in scene.clicks
        if click.positive is positive
    ]
    if not found:
        return np.inf, None
    distance, nearest = min(found)
    return distance, _grey(scene.image, nearest)[0]


def _mean_logit(scene: Scene, voxel: Voxel) -> float:
    if scene.logits is None:
        return 1.0 if scene.mask[voxel] else -1.0
    cell = as_voxel(np.array(voxel) * scene.logits.shape // np.array(scene.mask.shape))
    mean = float(scene.logits[_around(cell, scene.logits.shape)].mean())
    return float(np.clip(mean, -_MAX_LOGIT, _MAX_LOGIT)) / _MAX_LOGIT


def _at_full_size(scene: Scene, box: tuple[slice, slice, slice], fallback: NDArray[np.float32]) -> NDArray[np.floating]:
    """Return the logits of a box at the image's resolution by nearest cells; ``fallback`` if there are none."""
    if scene.logits is None:
        return fallback
    cells = [
        np.arange(side.start, side.stop) * have // n
        for side, have, n in zip(box, scene.logits.shape, scene.mask.shape, strict=True)
    ]
    return np.asarray(scene.logits[np.ix_(*cells)])


def _distances(mask: NDArray[np.bool_], spacing: Spacing) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the distance to the border in mm: inside the mask, 0 outside, and the other way round."""
    return _depth(mask, mask.shape, spacing, border=False), _depth(~mask, mask.shape, spacing, border=False)


def _depth(
    region: NDArray[np.bool_], whole: tuple[int, ...], spacing: Spacing, border: bool = True
) -> NDArray[np.float32]:
    """Return the distance of each voxel of a region to the nearest one outside; an axis of one voxel is left out."""
    if not region.size:
        return np.zeros(region.shape, np.float32)
    axes = [axis for axis in range(3) if whole[axis] > 1] or [2]
    steps = tuple(spacing[axis] for axis in axes)
    flat = np.ascontiguousarray(region).reshape([region.shape[axis] for axis in axes]).view(np.uint8)
    found = edt.edt(flat, anisotropy=steps if len(steps) > 1 else steps[0], black_border=border, parallel=1)
    return np.minimum(np.asarray(found, np.float32).reshape(region.shape), 1e4)


def _distance_to(shape: tuple[int, ...], places: list[NDArray[np.integer]], spacing: Spacing) -> NDArray[np.float64]:
    """Return the distance of each voxel to the nearest of some places in mm; large if there are none."""
    nearest = np.full(shape, 1e4)
    for place in places:
        axes = np.ogrid[tuple(slice(n) for n in shape)]
        squares = sum(((axis - i) * mm) ** 2 for axis, i, mm in zip(axes, place, spacing, strict=True))
        np.minimum(nearest, np.sqrt(squares), out=nearest)
    return nearest


def _border_mm(truth: NDArray[np.bool_], spacing: Spacing) -> Callable[[Voxel], float]:
    """Return a function that gives a voxel's distance to the truth's border in mm, inside or outside."""
    box = bounding_box(truth, _MARGIN)
    assert box is not None
    inside, outside = _distances(truth[box], spacing)
    return _field(inside + outside, np.array([side.start for side in box]))


def _field(values: NDArray[np.float32], corner: NDArray[np.integer]) -> Callable[[Voxel], float]:
    """Return a function that gives the value of the nearest voxel of a part of the grid."""

    def at(voxel: Voxel) -> float:
        inner = np.clip(np.subtract(voxel, corner), 0, np.subtract(values.shape, 1))
        return float(values[tuple(inner)])

    return at


def _inner(voxel: Voxel, corner: NDArray[np.integer]) -> Voxel:
    return as_voxel(np.subtract(voxel, corner))


def _dice(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    return float(2 * np.count_nonzero(mask & truth) / (np.count_nonzero(mask) + np.count_nonzero(truth)))
