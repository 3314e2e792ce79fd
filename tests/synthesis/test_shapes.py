import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.measure import points_in_poly

from synthfm_env.synthesis.anatomy.bezier import Loft, bezier_contour, polygon_distance
from synthfm_env.synthesis.anatomy.shapes import Block, Star, Tube, bernstein
from synthfm_env.synthesis.drawing.canvas import Canvas


def grid(n=48, half=24.0):
    line = torch.linspace(-half, half, n)
    return torch.stack(torch.meshgrid(line, line, line, indexing="ij")), 2 * half / (n - 1)


def test_bernstein_polynomials_sum_to_one_and_start_and_end_at_the_ends():
    weights = bernstein(7, 33)
    np.testing.assert_allclose(weights.sum(1), 1)
    assert weights[0, 0] == 1
    assert weights[-1, -1] == 1
    # B(1/2) of a cubic: (1, 3, 3, 1) / 8.
    np.testing.assert_allclose(bernstein(3, 3)[1], [1 / 8, 3 / 8, 3 / 8, 1 / 8])


def test_distance_to_a_circle_is_known():
    angle = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    line = np.linspace(-1.5, 1.5, 31)
    found = polygon_distance(np.stack([np.sin(angle), np.cos(angle)], 1), line)
    y, x = np.meshgrid(line, line, indexing="ij")
    np.testing.assert_allclose(found, 1 - np.hypot(y, x), atol=2e-4)


@pytest.mark.parametrize("seed", range(8))
def test_distance_is_positive_inside_the_contour(seed):
    contour = bezier_contour(np.random.default_rng(seed))
    line = np.linspace(-1.45, 1.45, 24)
    found = polygon_distance(contour, line)
    points = np.stack(np.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2)
    clear = np.abs(found).ravel() > 0.02
    assert np.array_equal((found.ravel() > 0)[clear], points_in_poly(points, contour)[clear])


def test_contours_differ_in_their_number_of_control_points():
    lengths = {len(bezier_contour(np.random.default_rng(seed))) for seed in range(40)}
    assert len(lengths) > 3


@pytest.mark.parametrize("seed", range(10))
def test_a_loft_grows_to_its_turning_slice_and_then_shrinks(seed):
    loft = Loft.draw(np.random.default_rng(seed), 12.0, tilt=0.0)
    p, _ = grid(64, 30.0)
    areas = (loft(p) > 0).sum((1, 2)).numpy()
    z = np.linspace(-30, 30, 64) / 12.0
    born = z > -0.6 * loft.half if loft.abrupt else np.ones(64, bool)
    assert areas.max() > 0
    slack = 3 + 0.02 * areas.max()  # a leaning contour meets other voxels in every slice
    assert (np.diff(areas[(z < loft.turning) & born]) >= -slack).all()
    assert (np.diff(areas[z > loft.turning]) <= slack).all()
    if loft.abrupt:
        assert areas[born][0] > 0.3 * areas.max() or loft.turning < -0.6 * loft.half


@pytest.mark.parametrize("kind", ["star", "loft", "block", "tube"])
@pytest.mark.parametrize("seed", range(6))
def test_no_part_of_a_shape_is_beyond_its_reach(kind, seed):
    rng = np.random.default_rng(seed)
    shape = {
        "star": lambda: Star.draw(rng, 9.0, bumpy=0.5),
        "loft": lambda: Loft.draw(rng, 9.0),
        "block": lambda: Block(np.array([6.0, 8.0, 10.0]), np.eye(3), 4.0, 0.2),
        "tube": lambda: Tube.along(rng.normal(0, 6, (4, 3)), (2.0, 3.0)),
    }[kind]()
    p, _ = grid(72, 34.0)
    inside = p[:, shape(p) > 0].T.numpy()
    low, high = shape.reach
    assert len(inside)
    assert (inside >= low - 1e-3).all()
    assert (inside <= high + 1e-3).all()


def test_f_falls_by_about_one_a_pixel_across_the_border():
    p, step = grid(96, 24.0)
    f = Star.ellipsoid(np.full(3, 15.0), np.eye(3))(p).numpy()
    along = f[48, 48]
    border = int(np.flatnonzero(along > 0)[-1])
    assert (along[border] - along[border + 1]) / step == pytest.approx(1.0, rel=0.1)


def test_a_tube_is_as_thick_as_its_radius():
    tube = Tube.along(np.array([[-20.0, 0, 0], [20.0, 0, 0]]), (4.0, 4.0))
    p, step = grid(97, 24.0)
    area = float((tube(p)[48] > 0).sum()) * step**2
    assert area == pytest.approx(np.pi * 16, rel=0.08)


def test_the_pieces_of_a_tube_make_up_the_tube():
    tube = Tube.along(np.random.default_rng(0).normal(0, 10, (6, 3)), (1.5, 1.5))
    p, _ = grid(48, 30.0)
    pieces = tube.pieces(8)
    assert len(pieces) > 1
    assert torch.equal(tube(p) > 0, torch.stack([piece(p) > 0 for piece in pieces]).any(0))


def test_a_mirrored_star_is_the_mirror_image():
    star = Star.draw(np.random.default_rng(1), 9.0, 0.4)
    p, _ = grid(40, 20.0)
    assert torch.equal(star(p) > 0, (star.mirrored()(p) > 0).flip(2))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", [Star, Loft])
def test_coarse_sampling_loses_next_to_nothing(kind, seed):
    canvas = Canvas((40, 96, 96), 1.3, 0.0, torch.Generator().manual_seed(0))
    centre = canvas.extent / 2
    shape = kind.draw(np.random.default_rng(seed), 18.0)
    box, f = canvas.evaluate(shape, centre, margin=2.0)
    exact = shape(canvas.points(box, f.shape, centre, warped=False)) > 0
    dice = 2 * float((exact & (f > 0)).sum()) / float(exact.sum() + (f > 0).sum())
    assert dice > 0.97


def test_a_stamp_blends_by_partial_volume_and_labels_the_inside():
    canvas = Canvas((24, 48, 48), 1.0, 0.0, torch.Generator().manual_seed(0))
    box, f = canvas.evaluate(Star.ellipsoid(np.full(3, 9.0), np.eye(3)), canvas.extent / 2, margin=2.0)
    canvas.stamp(box, f, mean=2.0, texture=0.5, width=3.0, label=7)
    inside = canvas.label == 7
    assert int(inside.sum()) == pytest.approx(4 / 3 * np.pi * 9**3, rel=0.05)
    assert float(canvas.mean.max()) == 2.0
    assert float(canvas.mean[inside].min()) >= 1.0
    assert float(canvas.mean[~inside].max()) <= 1.0
    edge = (canvas.mean > 0.1) & (canvas.mean < 1.9)
    assert (
        ndimage.distance_transform_edt(~(inside.numpy() ^ ndimage.binary_dilation(inside.numpy())))[edge.numpy()].max()
        < 3
    )


def test_a_shape_outside_the_image_is_not_drawn():
    canvas = Canvas((24, 48, 48), 1.0, 2.0, torch.Generator().manual_seed(0))
    assert canvas.evaluate(Star.draw(np.random.default_rng(0), 5.0), np.array([12.0, 24, 90]), 2.0) is None
