"""Tests the scores."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import gaussian_filter

from synthfm_env.errors import InputError
from synthfm_env.metrics import Surfaces, clicks_to_target, dice, hd95, iou, normalised_auc, nsd, worst_drop

masks = hnp.arrays(bool, (2, 3, 4))


def test_dice_and_iou_equal_values_by_hand() -> None:
    a = np.array([[[1, 1, 1, 0]]], bool)
    b = np.array([[[0, 1, 1, 1]]], bool)
    assert dice(a, b) == pytest.approx(2 / 3)
    assert iou(a, b) == pytest.approx(0.5)


def test_empty_masks_score_one_or_zero() -> None:
    empty, some = np.zeros((2, 2, 2), bool), np.ones((2, 2, 2), bool)
    for score in (dice, iou):
        assert score(empty, empty) == 1.0
        assert score(empty, some) == score(some, empty) == 0.0
        assert score(some, some) == 1.0


@given(masks, masks)
def test_overlap_is_symmetric_bounded_and_one_for_equal_masks(a: np.ndarray, b: np.ndarray) -> None:
    d, j = dice(a, b), iou(a, b)
    assert 0 <= j <= d <= 1
    assert d == pytest.approx(2 * j / (1 + j))
    assert d == dice(b, a)
    assert (d == 1) == np.array_equal(a, b)
    assert d == dice(a.astype(np.uint8) * 255, b)


def test_different_shapes_are_refused() -> None:
    for score in (dice, iou):
        with pytest.raises(InputError, match=r"\(2, 2, 2\) and \(2, 2\)"):
            score(np.ones((2, 2, 2)), np.ones((2, 2)))


def test_the_area_equals_values_by_hand() -> None:
    assert normalised_auc([0.0, 1.0]) == 0.5
    assert normalised_auc([0.2, 0.6, 0.8]) == pytest.approx((0.1 + 0.6 + 0.4) / 2)
    assert normalised_auc([0.7]) == 0.7
    # the challenge's own figure for five steps is in 0..4
    five = [0.5, 0.6, 0.7, 0.8, 0.9]
    assert 4 * normalised_auc(five) == pytest.approx(0.55 + 0.65 + 0.75 + 0.85)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_area_is_between_the_worst_and_the_best_score(scores: list[float]) -> None:
    assert min(scores) - 1e-12 <= normalised_auc(scores) <= min(1.0, max(scores) + 1e-12)
    assert normalised_auc(np.ones(len(scores))) == 1.0


bad_scores = pytest.mark.parametrize("scores", [[], [0.5, float("nan")], [1.2], [-0.1], [[0.1, 0.2]]])


@bad_scores
def test_scores_out_of_range_are_named(scores: list[float]) -> None:
    with pytest.raises(InputError, match="normalised_auc"):
        normalised_auc(scores)
    with pytest.raises(InputError, match="clicks_to_target"):
        clicks_to_target(scores, 0.8)
    with pytest.raises(InputError, match="worst_drop"):
        worst_drop(scores)


def test_clicks_to_a_target_by_hand() -> None:
    scores = [0.5, 0.8, 0.7, 0.9]
    assert clicks_to_target(scores, 0.5) == 1
    assert clicks_to_target(scores, 0.8) == 2
    assert clicks_to_target(scores, 0.85) == 4
    assert clicks_to_target(scores, 0.95) is None
    for target in (0, 1.5, float("nan")):
        with pytest.raises(InputError, match="clicks_to_target: the target is"):
            clicks_to_target(scores, target)


def test_worst_drop_by_hand() -> None:
    assert worst_drop([0.5, 0.9, 0.6, 0.5, 0.8]) == pytest.approx(0.3)
    assert worst_drop([0.1, 0.2, 0.2]) == 0.0
    assert worst_drop([0.4]) == 0.0


def box(start: tuple[int, int, int], size: tuple[int, int, int], shape: tuple[int, int, int] = (12, 14, 16)):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(i, i + n) for i, n in zip(start, size, strict=True))] = True
    return mask


def test_area_of_one_voxel_by_hand() -> None:
    """Its surface is an octahedron whose corners lie half a voxel from its middle."""
    z, y, x = spacing = (3.0, 0.5, 0.8)
    voxel = box((4, 5, 6), (1, 1, 1))
    surfaces = Surfaces.between(voxel, voxel, spacing)
    face = np.sqrt((z * y) ** 2 + (y * x) ** 2 + (z * x) ** 2) / 8
    assert surfaces.areas[0] == pytest.approx(np.full(8, face))
    assert surfaces.distances[0].tolist() == [0.0] * 8


def test_area_of_a_box_by_hand() -> None:
    """Faces count in full for corners within them, edges and corners of the box are cut off."""
    n = 6
    cube = box((2, 2, 2), (n, n, n))
    faces, edges, corners = 6 * (n - 1) ** 2, 12 * (n - 1) * np.sqrt(0.5), 8 * np.sqrt(3) / 8
    assert Surfaces.between(cube, cube, (1, 1, 1)).areas[0].sum() == pytest.approx(faces + edges + corners)


def test_a_shifted_box_by_hand() -> None:
    """Two slices of 2.5 mm on: the faces ahead and behind are 5 mm away, of the sides only what sticks out is."""
    a, b = box((2, 3, 3), (6, 8, 8)), box((4, 3, 3), (6, 8, 8))
    spacing = (2.5, 1.0, 1.0)
    assert nsd(a, b, spacing, 5.0) == nsd(b, a, spacing, 5.0) == 1.0
    assert hd95(a, b, spacing) == pytest.approx(5.0)
    areas = Surfaces.between(a, b, spacing)
    ends = (areas.distances[0] > 4.9) * areas.areas[0]
    face = 7 * 7 + 4 * 7 * np.hypot(1, 2.5) / 2 + 4 * np.sqrt(2.5**2 + 2.5**2 + 1) / 8
    # the end of b is inside a, four voxels from its sides, and closer than 5 mm to a part of a's far end
    assert ends.sum() == pytest.approx(face)


def test_a_tolerance_in_mm_follows_the_spacing() -> None:
    a, b = box((2, 3, 3), (6, 6, 6)), box((2, 3, 4), (6, 6, 6))
    assert nsd(a, b, (3, 1, 1), 1.0) == 1.0
    assert nsd(a, b, (3, 1, 1), 0.99) < 1.0
    assert nsd(a, b, (3, 1, 1.1), 1.0) < 1.0
    assert nsd(a, b, (1, 1, 0.1), 0.1) == 1.0, "a distance equal to the tolerance is within it"


def test_surfaces_of_empty_masks_have_defined_scores() -> None:
    spacing = (2.0, 1.0, 1.0)
    for shape in ((5, 6, 7), (1, 6, 7)):
        empty, some = np.zeros(shape, bool), np.ones(shape, bool)
        assert nsd(empty, empty, spacing, 1.0) == 1.0
        assert nsd(empty, some, spacing, 1e9) == nsd(some, empty, spacing, 1e9) == 0.0
        assert hd95(empty, empty, spacing) == 0.0
        assert hd95(empty, some, spacing) == hd95(some, empty, spacing) == np.inf


def test_a_contour_by_hand() -> None:
    """A single slice has a contour: a 4 x 6 mm rectangle with its corners cut, and no faces."""
    mask = np.zeros((1, 9, 9), bool)
    mask[0, 2:6, 3:6] = True
    surfaces = Surfaces.between(mask, mask, (5.0, 1.0, 2.0))
    assert surfaces.areas[0].sum() == pytest.approx(2 * (3 * 1.0 + 2 * 2.0) + 4 * np.hypot(1, 2) / 2)


@pytest.mark.parametrize(
    ("shape", "spacing", "message"),
    [((4, 5), (1, 1, 1), "three|D, H, W"), ((4, 5, 6), (1, 1), "spacing"), ((4, 5, 6), (1, 0, 1), "spacing")],
)
def test_what_surfaces_are_measured_on_is_checked(shape: tuple, spacing: tuple, message: str) -> None:
    with pytest.raises(InputError, match=message):
        nsd(np.ones(shape), np.ones(shape), spacing, 1.0)


def test_wrong_surface_arguments_are_named() -> None:
    some = np.ones((3, 4, 5))
    with pytest.raises(InputError, match=r"\(3, 4, 5\) and \(3, 4, 4\)"):
        hd95(some, some[..., 1:], (1, 1, 1))
    with pytest.raises(InputError, match="tolerance is -1"):
        nsd(some, some, (1, 1, 1), -1)
    with pytest.raises(InputError, match="percentage is 0"):
        Surfaces.between(some, some, (1, 1, 1)).hausdorff(0)


@given(masks, masks, st.sampled_from([(1.0, 1.0, 1.0), (3.0, 0.7, 0.9)]), st.floats(0, 5))
def test_nsd_is_symmetric_and_rises_with_tolerance(
    a: np.ndarray, b: np.ndarray, spacing: tuple, tolerance: float
) -> None:
    surfaces = Surfaces.between(a, b, spacing)
    score = surfaces.nsd(tolerance)
    assert 0 <= score <= 1 + 1e-12
    assert score == pytest.approx(nsd(b, a, spacing, tolerance))
    assert score <= surfaces.nsd(tolerance + 0.5)
    assert nsd(a, a, spacing, 0.0) == pytest.approx(1.0)
    assert hd95(a, a, spacing) == 0.0
    mirrored = nsd(a[:, ::-1], b[:, ::-1], spacing, tolerance)
    assert score == pytest.approx(mirrored)
    assert score == pytest.approx(nsd(np.pad(a, 3), np.pad(b, 3), spacing, tolerance)), "position does not matter"


reference = pytest.mark.parametrize("seed", range(25))


def blobs(seed: int) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float]]:
    """Two smooth masks that touch the border now and then, with more or less in common, and a spacing."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(3, 24, 3).tolist())
    noise = rng.normal(size=(2, *shape))
    noise[1] += rng.uniform(0, 2) * noise[0]
    smooth = [gaussian_filter(part, rng.uniform(0, 2)) for part in noise]
    z, y, x = rng.choice([0.5, 0.7, 0.8, 1.0, 1.1, 3.0], 3).tolist()
    a, b = (part > np.quantile(part, rng.uniform(0.3, 0.95)) for part in smooth)
    return a, b, (z, y, x)


@reference
def test_surface_scores_are_deepminds(seed: int) -> None:
    package = pytest.importorskip(
        "surface_distance", reason="DeepMind's package, the reference, comes with the extra dev"
    )
    a, b, spacing = blobs(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it asks for scipy's old module names
        expected = package.compute_surface_distances(a, b, spacing)
        flat = package.compute_surface_distances(a[1], b[1], spacing[1:]) if a[1].any() and b[1].any() else None
    surfaces = Surfaces.between(a, b, spacing)
    for tolerance in (0.0, 0.5, 1.0, 2.0, 2.1, 3.3, 7.77):
        assert surfaces.nsd(tolerance) == pytest.approx(
            package.compute_surface_dice_at_tolerance(expected, tolerance), abs=1e-6
        )
        if flat is not None:
            assert nsd(a[1:2], b[1:2], spacing, tolerance) == pytest.approx(
                package.compute_surface_dice_at_tolerance(flat, tolerance), abs=1e-6
            )
    for percent in (95, 100):
        assert surfaces.hausdorff(percent) == pytest.approx(
            package.compute_robust_hausdorff(expected, percent), abs=1e-6, rel=1e-6
        )


def test_every_neighbourhood_has_deepminds_area() -> None:
    package = pytest.importorskip(
        "surface_distance", reason="DeepMind's package, the reference, comes with the extra dev"
    )
    spacing = (3.1, 0.8, 1.3)
    for code in range(1, 256):
        mask = (code >> np.arange(8) & 1).reshape(2, 2, 2).astype(bool)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            expected = package.compute_surface_distances(mask, mask, spacing)["surfel_areas_gt"]
        assert np.sort(Surfaces.between(mask, mask, spacing).areas[0]) == pytest.approx(np.sort(expected), abs=1e-6)
