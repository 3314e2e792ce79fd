"""Tests every noise model against its formula: moments, distribution, spectrum. Seeds are fixed."""

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from synthfm_env.synthesis.imaging import noise

SHAPE = (32, 96, 96)
COUNT = np.prod(SHAPE)


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def flat(level):
    return torch.full(SHAPE, level)


def some(values, n=20_000):
    return values.numpy().ravel()[::13][:n].astype(float)


def radial_power(field):
    f = field.numpy() - field.numpy().mean()
    power = np.abs(np.fft.fftn(f)) ** 2 / f.size
    frequency = np.sqrt(sum(k**2 for k in np.meshgrid(*map(np.fft.fftfreq, f.shape), indexing="ij")))
    return frequency, power


def test_gaussian_is_white_normal_noise_of_the_stated_size():
    y = noise.gaussian(flat(2.0), 0.3, draws())
    assert float(y.mean()) == pytest.approx(2.0, abs=4 * 0.3 / COUNT**0.5)
    assert float(y.var()) == pytest.approx(0.09, rel=4 * (2 / COUNT) ** 0.5)
    assert stats.kstest((some(y) - 2.0) / 0.3, "norm").pvalue > 0.01
    frequency, power = radial_power(y)
    assert power[(frequency > 0) & (frequency < 0.15)].mean() == pytest.approx(power[frequency > 0.4].mean(), rel=0.05)


@pytest.mark.parametrize("photons", [2.0, 9.5, 10.0, 200.0])
def test_poisson_has_the_signals_mean_and_the_signal_over_photons_as_variance(photons):
    for level in (0.4, 1.7):
        y = noise.poisson(flat(level), photons, draws(1))
        assert float(y.mean()) == pytest.approx(level, abs=5 * (level / photons / COUNT) ** 0.5)
        assert float(y.var()) == pytest.approx(level / photons, rel=0.02)


def test_poisson_of_few_photons_counts_them():
    rate = 3.0 * 0.8
    counts = noise.poisson(flat(0.8), 3.0, draws(2)).mul(3.0).numpy().ravel()
    assert np.allclose(counts, counts.round(), atol=1e-4)
    seen = np.bincount(counts.round().astype(int), minlength=12)[:12]
    expected = stats.poisson.pmf(np.arange(12), rate) * COUNT
    assert stats.chisquare(seen, expected * seen.sum() / expected.sum()).pvalue > 0.01


def test_poisson_takes_negative_intensities_as_zero():
    for photons in (3.0, 100.0):
        assert not noise.poisson(flat(-1.0), photons, draws()).any()


def test_rician_follows_rice_and_rayleigh():
    sigma = 0.2
    air = noise.rician(flat(0.0), sigma, draws(3))
    assert stats.kstest(some(air), "rayleigh", args=(0, sigma)).pvalue > 0.01
    assert float(air.mean()) == pytest.approx(sigma * (np.pi / 2) ** 0.5, rel=0.005)
    tissue = noise.rician(flat(0.5), sigma, draws(4))
    assert stats.kstest(some(tissue), "rice", args=(0.5 / sigma, 0, sigma)).pvalue > 0.01
    assert float(tissue.pow(2).mean()) == pytest.approx(0.25 + 2 * sigma**2, rel=0.005)


def test_developed_speckle_is_rayleigh_and_scales_with_the_signal():
    r = noise.speckle(flat(1.0), draws(5))
    assert stats.kstest(some(r), "rayleigh", args=(0, 0.5**0.5)).pvalue > 0.01
    assert float(r.pow(2).mean()) == pytest.approx(1.0, rel=0.005)
    twice = noise.speckle(flat(2.0), draws(5))
    torch.testing.assert_close(twice, 2 * r)


def test_partial_speckle_leaves_the_rest_alone():
    whole, part = noise.speckle(flat(1.0), draws(6)), noise.speckle(flat(1.0), draws(6), share=0.25)
    torch.testing.assert_close(part, 0.75 + 0.25 * whole)


def test_blurred_speckle_keeps_its_power_and_gets_the_cells_correlation():
    cell = 2.0
    r = noise.speckle(flat(1.0), draws(7), size=(0, cell, cell))
    assert float(r.pow(2).mean()) == pytest.approx(1.0, rel=0.01)
    # The intensity of a complex field that is blurred by sigma is correlated as exp(-d^2 / 2 sigma^2).
    i = r.pow(2).numpy() - float(r.pow(2).mean())
    for lag in (1, 2, 4):
        measured = (i[:, :, lag:] * i[:, :, :-lag]).mean() / (i * i).mean()
        assert measured == pytest.approx(np.exp(-(lag**2) / (2 * cell**2)), abs=0.04)


def test_log_compression_is_its_formula_and_stays_within_zero_and_one():
    y = noise.log_compress(torch.tensor([[[0.0, 1e-4, 0.1, 1.0, 5.0]]]), 40.0)
    torch.testing.assert_close(y, torch.tensor([[[0.0, 0.0, 0.5, 1.0, 1.0]]]))


def test_perlin_is_gradient_noise_with_zeros_at_its_lattice_points():
    y = noise.perlin(torch.zeros(1, 97, 129), 0.5, 16.0, draws(8))
    assert float(y.std()) == pytest.approx(0.5, rel=0.01)
    assert float(y[:, ::16, ::16].abs().max()) < 1e-5
    assert float(y[:, 2::4, 2::4].abs().mean()) > 0.1
    z = noise.perlin(torch.zeros(9, 33, 33), 0.5, 8.0, draws(8), dz=2.0)
    assert float(z[::4, ::8, ::8].abs().max()) < 1e-5
    assert float(z[2, ::8, ::8].abs().mean()) > 0.05


def test_value_noise_has_the_stated_strength_and_no_power_above_its_finest_octave():
    y = noise.value_noise(flat(0.0), 0.5, 24.0, draws(8))
    assert float(y.std()) == pytest.approx(0.5, rel=0.3)
    frequency, power = radial_power(y)
    low, high = power[(frequency > 0) & (frequency < 1 / 24)].mean(), power[frequency > 0.4].mean()
    assert high < 1e-4 * low


def test_gaussian_blur_is_scipys():
    x = torch.randn((7, 40, 33), generator=draws(9))
    y = noise.gaussian_blur(x, (0.5, 1.3, 3.0))
    radii = [np.ceil(2.5 * s) / s for s in (0.5, 1.3, 3.0)]
    expected = x.numpy()
    for axis, (sigma, truncate) in enumerate(zip((0.5, 1.3, 3.0), radii, strict=True)):
        expected = ndimage.gaussian_filter1d(expected, sigma, axis, mode="nearest", truncate=truncate)
    np.testing.assert_allclose(y.numpy(), expected, atol=2e-6)


def test_noise_is_as_strong_at_the_edges_as_elsewhere():
    r = torch.cat([noise.speckle(flat(1.0), draws(seed), size=(0, 3.0, 3.0)) for seed in range(10, 14)])
    assert float(r[:, :4].pow(2).mean()) == pytest.approx(1.0, rel=0.1)
    assert float(r[:, :, -4:].pow(2).mean()) == pytest.approx(1.0, rel=0.1)


@pytest.mark.parametrize("shape", [(8, 16, 16), (1, 32, 32), (3, 20, 18)])
def test_magnitudes_come_out_once(shape):
    """A complex part made of the other by a shift of half the volume would give every value twice."""
    for make in (noise.rician, noise.speckle):
        parameter = (0.5,) if make is noise.rician else ()
        y = make(torch.zeros(shape) if parameter else torch.ones(shape), *parameter, draws(11))
        assert len(torch.unique(y)) > 0.98 * y.numel()


def test_noise_draws_from_the_generator_alone():
    for make in (
        lambda g: noise.gaussian(flat(1.0), 0.1, g),
        lambda g: noise.poisson(flat(1.0), 5.0, g),
        lambda g: noise.poisson(flat(1.0), 50.0, g),
        lambda g: noise.perlin(flat(1.0), 0.1, 16.0, g),
        lambda g: noise.value_noise(flat(1.0), 0.1, 16.0, g),
        lambda g: noise.rician(flat(1.0), 0.1, g),
        lambda g: noise.speckle(flat(1.0), g, (0, 1, 1)),
    ):
        torch.manual_seed(1)
        first = make(draws(3))
        torch.manual_seed(2)
        assert torch.equal(first, make(draws(3)))
        assert not torch.equal(first, make(draws(4)))
