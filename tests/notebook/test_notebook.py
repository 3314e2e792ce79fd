import gymnasium as gym
import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("ipyniivue", reason="the extra notebook is not installed")
import synthfm_env  # noqa: F401 - registers the envs
from synthfm_env import notebook
from synthfm_env.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture
def player():
    env = gym.make("SynthFM/Synthetic3D-v0", shape=[8, 40, 48], recipe="clear", segmenter="geodesic", reveal_truth=True)
    return notebook.play(env, seed=3)


def truth_of(player):
    return player._env.unwrapped._info(player._env.unwrapped._episode)["truth"]


def test_the_viewer_holds_the_image_and_the_crosshair_names_its_voxel(player):
    shown = nib.load(player.view.volumes[0].path)
    assert np.array_equal(np.asarray(shown.dataobj).T, player._image)
    player._move_crosshair({"vox": [30, 20, 5]})  # NiiVue tells (x, y, z)
    assert player.crosshair == (5, 20, 30)
    player._move_crosshair({"vox": [99, -1, 5]})
    assert player.crosshair == (5, 0, 47)


def test_buttons_place_clicks_and_show_the_mask(player):
    zyx = tuple(np.argwhere(truth_of(player))[0].tolist())
    player._move_crosshair({"vox": list(zyx[::-1])})
    player._buttons["inside"].click()
    assert player.mask[zyx]
    assert len(player.view.volumes) == 2
    overlay = nib.load(player.view.volumes[1].path)
    assert np.array_equal(np.asarray(overlay.dataobj).T, player.mask)
    player._buttons["undo"].click()
    assert not player.mask.any()
    assert len(player.view.volumes) == 1
    player._buttons["outside"].click()
    player._buttons["finish"].click()
    assert player.ended
    assert player._buttons["inside"].disabled
    assert len(player.rewards) == 4
    assert "finished" in player._text.value


def test_environments_of_others_are_refused():
    with pytest.raises(InputError, match="synthfm_env"):
        notebook.play(gym.make("CartPole-v1"))
