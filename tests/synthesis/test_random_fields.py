import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline

from synthfm_env.synthesis.drawing.random_fields import (
    cubic_matrix,
    expand,
    fractal_field,
    nesting_matrix,
    slabs,
    spline_columns,
    spline_matrix,
)


@pytest.mark.parametrize(("length", "cells"), [(64, 5), (17, 17), (128, 40), (9, 1)])
def test_the_spline_matrix_is_scipys_uniform_cubic_basis(length, cells):
    x = (np.arange(length) + 0.5) * cells / length
    knots = np.arange(-3, cells + 4)
    expected = BSpline.design_matrix(x, knots, 3).toarray()
    np.testing.assert_allclose(spline_matrix(length, cells, "cpu").numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(("length", "cells"), [(64, 5), (64, 60), (33, 12)])
def test_what_is_left_out_of_a_slab_is_zero(length, cells):
    matrix = spline_matrix(length, cells, "cpu")
    for rows in slabs((length, 256, 256)):
        outside = matrix[rows].clone()
        outside[:, spline_columns(rows, *matrix.shape)] = 0
        assert not outside.any()


def test_cubic_interpolation_keeps_parabolas_inside_and_lines_at_the_ends():
    matrix = cubic_matrix(50, 12, "cpu").double()
    t, fine = torch.linspace(0, 11, 12).double(), torch.linspace(0, 11, 50).double()
    torch.testing.assert_close(matrix @ (2 * t - 3), 2 * fine - 3, atol=1e-5, rtol=0)
    inner = (fine > 1) & (fine < 10)
    torch.testing.assert_close((matrix @ t**2)[inner], (fine**2)[inner], atol=1e-4, rtol=0)
    assert cubic_matrix(8, 8, "cpu") is None


def test_expanding_is_the_tensor_product_whatever_the_order_of_axes():
    g = torch.Generator().manual_seed(0)
    grid = torch.randn((5, 6, 7), generator=g)
    for depth in (1, 3, 40):
        mz, my, mx = torch.randn((depth, 5), generator=g), torch.randn((20, 6), generator=g), None
        expected = torch.einsum("ijk,zi,yj->zyk", grid, mz, my)
        torch.testing.assert_close(expand(grid, mz, my, mx), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("shape", [(48, 96, 96), (1, 256, 256)])
@pytest.mark.parametrize("sizes", [[4.0], [3.0, 9.0]])
def test_a_fractal_field_has_unit_variance(shape, sizes):
    field = fractal_field(shape, sizes, [1.0] * len(sizes), 1.0, torch.Generator().manual_seed(1))
    assert float(field.var()) == pytest.approx(1.0, rel=0.12)
    assert float(field.mean()) == pytest.approx(0.0, abs=0.15)


def test_fields_are_as_smooth_as_asked_in_millimetres_not_in_slices():
    def correlation(field, axis):
        a, b = field.narrow(axis, 0, field.shape[axis] - 4), field.narrow(axis, 4, field.shape[axis] - 4)
        return float((a * b).mean() / (field * field).mean())

    thin = fractal_field((64, 64, 64), [12.0], [1.0], 1.0, torch.Generator().manual_seed(2))
    thick = fractal_field((64, 64, 64), [12.0], [1.0], 4.0, torch.Generator().manual_seed(2))
    assert correlation(thin, 0) == pytest.approx(correlation(thin, 2), abs=0.1)
    assert correlation(thick, 0) < 0.5 < correlation(thick, 2)


@pytest.mark.parametrize(("fine", "cells"), [(20, 10), (33, 11), (40, 6)])
def test_a_spline_nested_in_a_finer_one_keeps_its_course_and_its_variance(fine, cells):
    coarse = torch.randn((cells + 3, 4000), generator=torch.Generator().manual_seed(0))
    plain = spline_matrix(400, cells, "cpu") @ coarse
    nested = spline_matrix(400, fine, "cpu") @ (nesting_matrix(fine, cells, "cpu") @ coarse)
    assert float(nested.var()) == pytest.approx(float(plain.var()), rel=0.02)
    assert float((nested * plain).mean() / (nested.std() * plain.std())) > 0.98
    assert nesting_matrix(cells, cells, "cpu") is None
