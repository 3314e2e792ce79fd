"""Proposes clicks from the errors of a mask."""

from collections.abc import Callable, Iterator

import cc3d
import numpy as np
from numpy.typing import NDArray

from synthfm_env.candidates.distances import (
    MARGIN,
    Spacing,
    border_distances,
    depth_mm,
    distance_to,
    inner_voxel,
    nearest_value,
)
from synthfm_env.candidates.features import Candidates, describe_candidates, image_deviation
from synthfm_env.candidates.prompt_state import PromptState
from synthfm_env.candidates.surroundings import Surroundings
from synthfm_env.error_regions import ISOTROPIC, Voxel, as_voxel, deepest_voxel
from synthfm_env.geometry import bounding_box
from synthfm_env.metrics import dice
from synthfm_env.prompts import Click


def oracle_candidates(state: PromptState, count: int) -> Candidates:
    """Propose the deepest points of the largest errors.

    The first ones are the clicks of ``synthfm-mm-v1`` and ``ritm-3d-v1`` (the deepest point in mm and in voxels). The
    deepest point in mm of each error component (26 neighbours) follows, by size, then further deep points of the
    largest components. No voxel is proposed twice, and none that was clicked.

    Args:
        state: with the truth.
        count: the largest number of candidates, 1 or more.
    """
    # The missed voxels ask for positive clicks, the false ones for negative ones.
    truth = state.truth
    assert truth is not None
    missed, false = truth & ~state.mask, state.mask & ~truth
    regions = [_ErrorRegion(part, state, positive) for part, positive in ((missed, True), (false, False))]
    # 1. The points of both click rules, each in the region that is deeper.
    chosen: dict[Voxel, tuple[_ErrorRegion, int]] = {}
    clicked = [click.zyx for click in state.clicks]
    for spacing in (state.spacing, ISOTROPIC):
        deepest_points = [(deepest_voxel(region.whole, clicked, spacing), region) for region in regions]
        best, region = max(deepest_points, key=lambda pair: pair[0].distance)
        if best.distance > 0:
            chosen.setdefault(best.zyx, (region, region.component_at(best.zyx)))
    # 2. The deepest point of each component by size, then the second ones, and so on.
    peaks = [(size, region, component) for region in regions for component, size in region.sizes()]
    for take in range(count):
        for _, region, component in sorted(peaks, key=lambda peak: -peak[0])[:count]:
            if len(chosen) >= count:
                break
            if sum(owner == (region, component) for owner in chosen.values()) > take:
                continue  # a click rule has proposed a point of this component already
            voxel = region.peak(component, take, [*clicked, *chosen], state.least_distance)
            if voxel is not None:
                chosen.setdefault(voxel, (region, component))
    # Features of the candidates.
    rows = list(chosen.items())[:count]
    border = _border_distance(truth, state.spacing)
    surroundings = Surroundings(state, image_deviation(state.image))
    return describe_candidates(
        state,
        [Click(voxel, region.positive) for voxel, (region, _) in rows],
        [(*region.depth_at(voxel), region.volume(component)) for voxel, (region, component) in rows],
        border,
        dice(state.mask, truth),
        [region.component_in(component, surroundings) for _, (region, component) in rows],
        surroundings,
    )


class _ErrorRegion:
    """The missed or the false voxels of a mask, with their components and depths. Arrays cover the region's box."""

    def __init__(self, whole: NDArray[np.bool_], state: PromptState, positive: bool) -> None:
        self.whole, self.positive, self._state = whole, positive, state
        box = bounding_box(whole)
        self._corner = np.array([0, 0, 0] if box is None else [side.start for side in box])
        crop = whole[:0, :0, :0] if box is None else whole[box]
        # The margin is for cc3d 4.1.1, which fails on some boxes one voxel wide.
        padded = cc3d.connected_components(np.pad(crop, 1), connectivity=26) if crop.size else np.zeros((2, 2, 2), int)
        self._labels = padded[1:-1, 1:-1, 1:-1]
        self._sizes = np.bincount(self._labels.ravel(), minlength=1)
        self._mm = depth_mm(crop, whole.shape, state.spacing)
        self._voxels = depth_mm(crop, whole.shape, ISOTROPIC)

    def sizes(self) -> Iterator[tuple[int, int]]:
        """Yield each component's label with its number of voxels."""
        return ((component, int(size)) for component, size in enumerate(self._sizes) if component and size)

    def component_at(self, voxel: Voxel) -> int:
        """Return the label of the component that holds a voxel."""
        return int(self._labels[inner_voxel(voxel, self._corner)])

    def volume(self, component: int) -> float:
        """Return the volume of a component in mm³."""
        return float(self._sizes[component] * np.prod(self._state.spacing))

    def component_in(self, component: int, surroundings: Surroundings) -> tuple[NDArray[np.bool_], float]:
        """Return a component as bool in the box of the surroundings, and its share among all errors of its sign."""
        part = self._sizes[component] / max(self._sizes[1:].sum(), 1)
        return surroundings.region(self._labels == component, self._corner), float(part)

    def depth_at(self, voxel: Voxel) -> tuple[float, float]:
        """Return the depth at a voxel in mm and in voxels."""
        at = inner_voxel(voxel, self._corner)
        return float(self._mm[at]), float(self._voxels[at])

    def peak(self, component: int, rank: int, taken: list[Voxel], apart: float) -> Voxel | None:
        """Return the deepest voxel of a component that is not taken, or None.

        Args:
            component: its label.
            rank: from 1 on, voxels nearer than ``apart`` mm to one that is taken do not count either.
            taken: voxels that were clicked or proposed.
            apart: mm.
        """
        depth = np.where(self._labels == component, self._mm, 0)
        for voxel in taken:
            at = np.subtract(voxel, self._corner)
            if rank:
                depth[distance_to(depth.shape, [at], self._state.spacing) < apart] = 0
            elif (at >= 0).all() and (at < depth.shape).all():
                depth[tuple(at)] = 0
        if not depth.size or depth.max() <= 0:
            return None
        return as_voxel(np.add(np.unravel_index(int(depth.argmax()), depth.shape), self._corner))


def _border_distance(truth: NDArray[np.bool_], spacing: Spacing) -> Callable[[Voxel], float]:
    """Return a function that takes a voxel and returns its distance to the truth's border in mm, inside or outside."""
    box = bounding_box(truth, MARGIN)
    assert box is not None
    inside, outside = border_distances(truth[box], spacing)
    return nearest_value(inside + outside, np.array([side.start for side in box]))
