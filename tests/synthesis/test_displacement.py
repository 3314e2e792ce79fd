import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline

from synthfm_env.synthesis.drawing.displacement import Displacement

EXTENT = np.array([60.0, 96, 128])


def drawn(seed=0, amplitude=3.0, **kwargs):
    return Displacement(EXTENT, amplitude, torch.Generator().manual_seed(seed), flat=False, **kwargs)


def lines(counts=(13, 17, 19)):
    return [(np.arange(n) + 0.5) * e / n for n, e in zip(counts, EXTENT, strict=True)]


def test_it_is_a_cubic_spline_of_its_control_points():
    control = torch.randn((3, 5, 6, 7), generator=torch.Generator().manual_seed(0)).numpy() * 3.0
    found = drawn().across(lines()).numpy()
    expected = control
    for axis, (line, e, n) in enumerate(zip(lines(), EXTENT, control.shape[1:], strict=True), start=1):
        basis = BSpline.design_matrix(line * (n - 3) / e, np.arange(-3, n + 1), 3).toarray()
        expected = np.moveaxis(np.tensordot(basis, expected, (1, axis)), 0, axis)
    np.testing.assert_allclose(found, expected, atol=0.02)


def test_single_points_are_displaced_as_lines_are():
    field, (z, y, x) = drawn(1), lines()
    points = np.stack([z[[0, 4, 12]], y[[3, 0, 16]], x[[18, 7, 0]]], 1)
    found = field.across(lines()).numpy()
    np.testing.assert_allclose(
        field.at(points), [found[:, 0, 3, 18], found[:, 4, 0, 7], found[:, 12, 16, 0]], atol=1e-4
    )


def test_beyond_the_volume_its_border_goes_on():
    field = drawn(2)
    np.testing.assert_allclose(
        field.at(np.array([[-9.0, 40, 140]])), field.at(np.array([[0.0, 40, 127.99]])), atol=0.02
    )


@pytest.mark.parametrize("seed", range(6))
def test_bounds_hold_where_a_shape_is_seen(seed):
    rng = np.random.default_rng(seed)
    field = drawn(seed)
    low = rng.uniform(0, 0.6, 3) * EXTENT
    high = low + rng.uniform(0.1, 0.4, 3) * EXTENT
    least, most = field.bounds(low, high)
    inside = field.at(rng.uniform(low, high, (500, 3)))
    slack = 0.1 * field.amplitude  # it is known on a coarse grid
    assert (inside >= least - slack).all()
    assert (inside <= most + slack).all()
    assert ((most - least) <= 4 * field.amplitude).all()


def test_a_single_slice_is_not_left():
    field = Displacement(np.array([1.0, 96, 96]), 3.0, torch.Generator().manual_seed(0), flat=True)
    found = field.at(np.array([[0.5, 20, 30], [0.5, 60, 70]]))
    assert not found[:, 0].any()
    assert found[:, 1:].all()
