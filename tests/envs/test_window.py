"""Tests the render mode "human"."""

import copy
import sys

import pytest
from ball_segmenter import BallSegmenter
from matplotlib import pyplot
from matplotlib.backends.backend_agg import FigureCanvasAgg

from synthfm_env import InputError, VolumeEnv


@pytest.fixture(autouse=True)
def no_windows_left():
    """Draw off screen, and leave no figure behind."""
    pyplot.switch_backend("agg")
    yield
    assert pyplot.get_fignums() == []


@pytest.fixture
def shown(monkeypatch):
    """Make matplotlib believe in a display; return a list that takes the picture of every pause."""
    pictures = []
    monkeypatch.setattr(FigureCanvasAgg, "required_interactive_framework", "a display")
    monkeypatch.setattr(
        pyplot, "pause", lambda seconds: pictures.append(pyplot.gcf().axes[0].images[0].get_array().copy())
    )
    return pictures


def boxes(volume, render_mode="human", **kwargs):
    return VolumeEnv(image=volume, structure="box", segmenter=BallSegmenter(), render_mode=render_mode, **kwargs)


def test_every_step_shows_what_rgb_array_returns(volume, shown):
    human, rgb = boxes(volume), boxes(volume, "rgb_array")
    human.reset()
    rgb.reset()
    expected = [rgb.render()]
    for action in ([5, 10, 9, 1], [5, 4, 9, 0], [0, 0, 0, 2]):
        human.step(action)
        rgb.step(action)
        expected.append(rgb.render())
    assert len(shown) == 4
    assert all((picture == frame).all() for picture, frame in zip(shown, expected, strict=True))
    assert len(pyplot.get_fignums()) == 1
    assert "stopped" in pyplot.gcf().get_suptitle()
    assert human.render() is None
    assert len(shown) == 5
    human.close()
    human.close()


def test_a_closed_window_opens_again_with_the_next_step(volume, shown):
    env = boxes(volume)
    env.reset()
    pyplot.close("all")
    env.step([5, 10, 9, 1])
    assert len(pyplot.get_fignums()) == 1
    env.close()
    env.reset()
    assert len(shown) == 3
    env.close()


def test_a_copy_has_a_window_of_its_own(volume, shown):
    env = boxes(volume)
    env.reset()
    twin = copy.deepcopy(env)
    twin.reset()
    assert len(pyplot.get_fignums()) == 2
    env.close()
    twin.close()


def test_without_a_display_it_warns_once(volume):
    env = boxes(volume)
    with pytest.warns(UserWarning, match="render_mode='rgb_array'"):
        env.reset()
    env.step([5, 10, 9, 1])
    env.close()


def test_without_matplotlib_the_extra_is_named(volume, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InputError, match=r"pip install 'synthfm_env\[plot\]'"):
        boxes(volume)
    boxes(volume, "ansi")
