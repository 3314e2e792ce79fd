import pytest
import torch
from scipy import stats

from synthfm_env.synthesis.drawing.fast_normal import normal


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def test_draws_are_normal():
    found = normal((64, 64, 64), draws())
    assert found.shape == (64, 64, 64)
    assert found.dtype == torch.float32
    assert float(found.mean()) == pytest.approx(0, abs=4 / 512)
    assert float(found.var()) == pytest.approx(1, abs=4 * 2**0.5 / 512)
    assert float(found.pow(4).mean()) == pytest.approx(3, abs=4 * 96**0.5 / 512)
    assert stats.kstest(found.flatten().double().numpy(), "norm").pvalue > 0.01
    assert 4 < float(normal((1 << 20,), draws()).abs().max()) < 4.34


def test_draws_do_not_depend_on_each_other():
    found = normal((1 << 18,), draws(1))
    for lag in (1, 2, 3, 4, 64, 1 << 17):
        assert float((found[lag:] * found[:-lag]).mean()) == pytest.approx(0, abs=4 / len(found[lag:]) ** 0.5)


def test_any_shape_is_the_beginning_of_a_longer_one():
    whole = normal((1 << 18,), draws(2))
    assert torch.equal(normal((3, 5, 7), draws(2)).flatten(), whole[:105])
    assert torch.equal(normal((131075,), draws(2)), whole[:131075])
    assert not torch.equal(normal((105,), draws(3)), whole[:105])
