import numpy as np
import pytest

from synthfm_agents import make_clicker
from synthfm_agents.protocol import ClickContext
from synthfm_env.errors import InputError

SPACING = (4.0, 1.0, 1.0)


@pytest.fixture
def scene():
    truth = np.zeros((16, 48, 48), dtype=bool)
    truth[2:14, 8:40, 8:40] = True
    empty = np.zeros_like(truth)
    return ClickContext(truth, empty, truth, empty, (), SPACING)


def clicks(scene, count=400, **params):
    clicker = make_clicker("human-noise-v1", **params)
    clicker.reset(7)
    return [clicker.choose(scene) for _ in range(count)]


def test_without_noise_it_clicks_as_ritm_does(scene):
    ritm = make_clicker("ritm-3d-v1")
    ritm.reset(0)
    assert set(clicks(scene, 3, jitter_mm=0.0, wrong_sign=0.0)) == {ritm.choose(scene)}


def test_the_jitter_is_in_mm_along_each_axis(scene):
    meant = clicks(scene, 1, jitter_mm=0.0, wrong_sign=0.0)[0].zyx
    off_mm = np.subtract([click.zyx for click in clicks(scene, jitter_mm=3.0, wrong_sign=0.0)], meant) * SPACING
    # Rounding to voxels adds spacing / sqrt(12).
    assert off_mm.std(axis=0) == pytest.approx(np.sqrt(9 + np.square(SPACING) / 12), rel=0.15)
    assert abs(off_mm.mean(axis=0)).max() < 0.6


def test_clicks_stay_in_the_error_that_was_seen(scene):
    assert all(scene.missed[click.zyx] for click in clicks(scene, jitter_mm=12.0, wrong_sign=0.0))


def test_signs_are_wrong_with_the_stated_probability(scene):
    wrong = [not click.positive for click in clicks(scene, wrong_sign=0.2)]
    assert np.mean(wrong) == pytest.approx(0.2, abs=0.06)


def test_a_seed_gives_the_same_clicks_again(scene):
    assert clicks(scene, 20) == clicks(scene, 20)


@pytest.mark.parametrize("params", [{"jitter_mm": -1.0}, {"jitter_mm": float("nan")}, {"wrong_sign": 1.5}])
def test_values_out_of_range_are_refused(params):
    with pytest.raises(InputError, match="expected"):
        make_clicker("human-noise-v1", **params)
