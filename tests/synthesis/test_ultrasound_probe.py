import numpy as np
import pytest
import torch

from synthfm_env.synthesis.drawing.random_fields import gaussian_blur
from synthfm_env.synthesis.imaging.noise import speckle
from synthfm_env.synthesis.imaging.ultrasound_probe import Probe

KINDS = [Probe.sector, Probe.magnified, Probe.trapezium]


@pytest.mark.parametrize("draw", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_scan_conversion_brings_back_what_was_scanned(draw, seed):
    probe = draw(96, 128, np.random.default_rng(seed))
    y, x = torch.meshgrid(torch.linspace(0, 3, 96), torch.linspace(0, 4, 128), indexing="ij")
    smooth = torch.stack([torch.sin(y + x), torch.cos(2 * x - y)])
    back = probe.to_screen(probe.to_beams(smooth))
    seen = torch.ones(96, 128, dtype=torch.bool) if probe.in_view is None else probe.in_view
    assert back.shape == smooth.shape
    assert 0.1 < seen.float().mean() <= 1
    off = (back - smooth).abs()[:, seen]
    assert off.mean() < 0.003
    assert off.max() < 0.1  # at the screen's border


def test_a_fan_opens_downwards_and_ends_at_a_depth():
    for seed in range(8):
        seen = Probe.sector(128, 128, np.random.default_rng(seed)).in_view.numpy()
        rows = np.flatnonzero(seen.any(1))
        widths = seen.sum(1)
        assert widths[rows[0]] < widths[round(0.7 * rows[-1])]
        assert widths[rows[-1]] < widths[round(0.7 * rows[-1])]
        assert np.array_equal(seen, seen[:, ::-1])


def test_the_beams_of_a_fan_point_away_from_its_apex():
    probe = Probe.magnified(100, 100, np.random.default_rng(0))
    first = probe.beams[:, 0]
    steps = np.diff(first.numpy(), axis=0)
    assert np.ptp(np.arctan2(steps[:, 0], steps[:, 1])) < 1e-2
    assert steps[0, 0] < 0 < steps[0, 1]


def test_speckle_gets_coarser_across_the_beams_with_depth():
    probe = Probe.magnified(192, 192, np.random.default_rng(1))
    grid = torch.ones(12, *probe.beams.shape[:2])
    shown = probe.to_screen(speckle(grid, torch.Generator().manual_seed(0), (0, 1.0, 2.0)))
    shown = shown - gaussian_blur(shown, (0, 12, 12))

    def likeness(rows, lag):
        part = shown[:, rows]
        return float((part[:, :, lag:] * part[:, :, :-lag]).mean() / part.pow(2).mean())

    near, far = slice(8, 48), slice(144, 184)
    assert likeness(far, 3) > likeness(near, 3) + 0.1
