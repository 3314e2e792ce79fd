"""Describes the structure around candidate clicks: its greys, its depth, and the share of it that is similar."""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from synthfm_env.candidates.distances import depth_mm
from synthfm_env.candidates.prompt_state import PromptState
from synthfm_env.error_regions import Voxel
from synthfm_env.geometry import bounding_box

RING = 2  # voxels around a structure in which its surroundings are measured
_REACH = 1.5  # radii around a candidate in which voxels of similar grey are counted
_NEARBY = 0.5  # radii around a candidate in which its region is measured
_SIMILAR = 0.5  # deviations of the image by which similar greys differ at most
_LEAST_SPREAD = 2.0  # grey levels, added to a spread that others are divided by
_MOST = 4.0  # shares of the structure's volume are clipped to it


def contrast_of(image: NDArray[np.float32], mask: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    """Return mean and spread of the greys in a mask, and those in the ring around it; zeros if one is empty.

    Args:
        image: (d, h, w).
        mask: bool, the same shape.
    """
    ring = ndimage.binary_dilation(mask, iterations=RING) & ~mask
    inside, outside = image[mask], image[ring]
    if not inside.size or not outside.size:
        return 0.0, 0.0, 0.0, 0.0
    return float(inside.mean()), float(inside.std()), float(outside.mean()), float(outside.std())


def centring(mask: NDArray[np.bool_], first: Voxel, state: PromptState) -> float:
    """Return the depth of a mask at the first positive click as a share of its largest depth, 0 to 1.

    It is 1 for the true mask if the first click is its deepest voxel, as most protocols begin.

    Args:
        mask: bool (d, h, w).
        first: voxel of that click, in the mask's grid.
        state: of the episode.
    """
    depth = depth_mm(mask, state.mask.shape, state.spacing, border=False)
    return float(depth[first] / depth.max()) if depth.size and depth.max() > 0 else 0.0


class Surroundings:
    """Measures the structure of a state, which is the truth or, without a truth, the mask, in a box around both.

    Args:
        state: of the episode.
        deviation: of the image's greys.
    """

    def __init__(self, state: PromptState, deviation: float) -> None:
        self._state, self._deviation = state, deviation
        whole = state.mask if state.truth is None else state.truth
        margin = max(RING + 1, int(np.ceil(state.radius / min(state.spacing))))
        box = bounding_box(whole | state.mask, margin)
        assert box is not None
        self._corner = np.array([side.start for side in box])
        self.structure, self.mask = whole[box], state.mask[box]
        self._smooth = ndimage.uniform_filter(state.image[box].astype(np.float32), 3, mode="nearest")
        self._size = max(int(np.count_nonzero(self.structure)), 1)
        self._mean, self._spread, self._around, self._around_spread = contrast_of(self._smooth, self.structure)
        self._depth = depth_mm(self.structure, state.mask.shape, state.spacing, border=False)
        self._centre = self._centre_of(self.structure)

    def region(self, part: NDArray[np.bool_], corner: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Return a region in this box, bool, from the region in another box that begins at ``corner``."""
        whole = np.zeros(self.structure.shape, bool)
        start = corner - self._corner
        whole[tuple(slice(a, a + n) for a, n in zip(start, part.shape, strict=True))] = part
        return whole

    @cached_property
    def _common(self) -> tuple[float, ...]:
        """Return the features that all candidates share."""
        state = self._state
        missed = np.count_nonzero(self.structure & ~self.mask) / self._size
        false = np.count_nonzero(self.mask & ~self.structure) / self._size
        first = next((click.zyx for click in state.clicks if click.positive), None)
        inner = None if first is None else tuple(np.clip(np.subtract(first, self._corner), 0, None).tolist())
        inside = inner is not None and all(i < n for i, n in zip(inner, self.mask.shape, strict=True))
        return (
            (self._mean - self._around) / self._deviation,
            self._spread / self._deviation,
            self._around_spread / self._deviation,
            missed,
            min(false, _MOST),
            float(self._depth.max(initial=0.0)) / state.radius,
            float(len(state.clicks)) / 4,
            centring(self.mask, inner, state) if inner is not None and inside else 0.0,
        )

    def describe(self, voxel: Voxel, region: NDArray[np.bool_], part: float) -> tuple[float, ...]:
        """Return the features of one candidate from "grey_from_structure" to "centred", in the order of ``FEATURES``.

        Args:
            voxel: of the candidate.
            region: bool, in this box: the error component that the candidate is in, or the mask.
            part: share of the region among all errors of its sign.
        """
        # Nearest voxel in this box, its grey level, and its distance to all voxels
        state, radius = self._state, self._state.radius
        place = np.clip(np.subtract(voxel, self._corner), 0, np.subtract(self.structure.shape, 1))
        at = tuple(place.tolist())
        grey = float(self._smooth[at])
        axes = np.ogrid[tuple(slice(n) for n in self.structure.shape)]
        squares = sum(((axis - i) * mm) ** 2 for axis, i, mm in zip(axes, at, state.spacing, strict=True))
        # Voxels of similar grey, those of them in reach, and voxels near the candidate
        similar = np.abs(self._smooth - grey) < _SIMILAR * self._deviation
        in_reach = similar & (squares < (_REACH * radius) ** 2)
        nearby = squares < max((_NEARBY * radius) ** 2, min(state.spacing) ** 2)
        deepest = max(float(self._depth.max(initial=0.0)), 1e-6)
        return (
            min(abs(grey - self._mean) / (self._spread + _LEAST_SPREAD), _MOST),
            min(abs(grey - self._around) / (self._around_spread + _LEAST_SPREAD), _MOST),
            np.count_nonzero(similar & region) / max(int(np.count_nonzero(region)), 1),
            np.count_nonzero(similar & self.structure) / self._size,
            min(np.count_nonzero(in_reach & ~self.structure) / self._size, _MOST),
            part,
            float(self._depth[at]) / deepest,
            self._from(voxel, self._centre),
            self._from(voxel, self._centre_of(region)),
            np.count_nonzero(nearby & region) / max(int(np.count_nonzero(nearby)), 1),
            *self._common,
        )

    def _centre_of(self, region: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the centre of a region in voxels of the volume."""
        places = np.argwhere(region)
        return (places.mean(0) if len(places) else np.zeros(3)) + self._corner

    def _from(self, voxel: Voxel, place: NDArray[np.float64]) -> float:
        """Return the distance of a voxel to a place in radii."""
        return min(float(np.linalg.norm((voxel - place) * self._state.spacing)) / self._state.radius, _MOST)
