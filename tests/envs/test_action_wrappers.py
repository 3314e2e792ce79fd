"""Tests wrappers that change the form of actions."""

import numpy as np
import pytest
from ball_segmenter import BallSegmenter, BreakingSegmenter

from synthfm_env import InputError, VolumeEnv
from synthfm_env.envs.wrappers import ContinuousAction, FlatAction, SliceLockedAction, UndoAction


@pytest.fixture
def env(volume):
    """An environment on the larger box, whose middle is (5, 10, 9), on a grid of (10, 24, 20)."""
    return VolumeEnv(image=volume, structure="box", segmenter=BallSegmenter(), render_mode="ansi")


def clicks(observation):
    return [tuple(row) for row in observation["clicks"].tolist() if row[0] >= 0]


def test_flat_numbers_reach_every_voxel_with_both_signs_and_stop(env):
    flat = FlatAction(env)
    assert flat.action_space.n == 2 * 10 * 24 * 20 + 1
    seen = {tuple(flat.action(number).tolist()) for number in range(flat.action_space.n)}
    expected = {(z, y, x, sign) for z in range(10) for y in range(24) for x in range(20) for sign in (0, 1)}
    assert seen == expected | {(0, 0, 0, 2)}
    flat.reset()
    observation, *_ = flat.step(2 * ((5 * 24 + 10) * 20 + 9) + 1)
    assert clicks(observation) == [(5, 10, 9, 1)]
    *_, terminated, _, info = flat.step(np.int64(flat.action_space.n - 1))
    assert terminated
    assert info["outcome"] == "stopped"


@pytest.mark.parametrize("action", [-1, 9601, 1.5, None, [1, 2]])
def test_flat_numbers_out_of_range_are_refused(env, action):
    flat = FlatAction(env)
    flat.reset()
    with pytest.raises(InputError, match=r"expected an integer in Discrete\(9601\)"):
        flat.step(action)


def test_real_numbers_share_the_grid_out_evenly(env):
    continuous = ContinuousAction(env)
    assert continuous.action_space.shape == (5,)
    for axis, count in enumerate((10, 24, 20)):
        values = np.zeros((count * 50, 5), np.float32)
        values[:, axis] = np.linspace(-1, 1, count * 50, endpoint=False) + 1e-4
        hit = [continuous.action(value)[axis] for value in values]
        assert np.bincount(hit, minlength=count).tolist() == [50] * count
    assert continuous.action([-1, -1, -1, -1, -1]).tolist() == [0, 0, 0, 0]
    assert continuous.action([1, 1, 1, 0, 0.9]).tolist() == [9, 23, 19, 1]
    assert continuous.action([7, -7, 0, -0.01, 0]).tolist() == [9, 0, 10, 0]
    assert continuous.action([0, 0, 0, 0, 0.95])[3] == 2


@pytest.mark.parametrize("action", [[0.0] * 4, [np.nan] * 5, "here", None])
def test_real_numbers_of_another_form_are_refused(env, action):
    continuous = ContinuousAction(env)
    continuous.reset()
    with pytest.raises(InputError, match=r"env\.step\(\) got action"):
        continuous.step(action)


def test_all_clicks_are_in_the_locked_slice(env):
    locked = SliceLockedAction(env)
    assert locked.action_space.nvec.tolist() == [24, 20, 3]
    assert locked.reset()[1]["slice"] == 5
    observation, *_, info = locked.step([10, 9, 1])
    assert (clicks(observation), info["slice"]) == ([(5, 10, 9, 1)], 5)
    assert locked.reset(options={"slice": 7, "structure": "rod"})[1]["structure"] == "rod"
    assert clicks(locked.step([10, 9, 0])[0]) == [(7, 10, 9, 0)]
    assert locked.step([0, 0, 2])[4]["outcome"] == "stopped"
    assert locked.reset()[1]["slice"] == 5, "another slice is for its episode only"
    assert SliceLockedAction(env, index=0).reset()[1]["slice"] == 0


def test_slices_that_are_not_there_are_refused(env):
    for options in ([1], "slice", 3):
        with pytest.raises(InputError, match=r"expected a dict, for example \{'slice': 1\}"):
            SliceLockedAction(env).reset(options=options)
    with pytest.raises(InputError, match="no slice 10: this environment has slices 0 to 9"):
        SliceLockedAction(env, index=10)
    locked = SliceLockedAction(env)
    for index in (-1, 2.0, "5"):
        with pytest.raises(InputError, match="there is no slice"):
            locked.reset(options={"slice": index})
    locked.reset()
    for action in ([5, 10, 9, 1], [1.0, 2.0, 1.0], [24, 0, 1]):
        with pytest.raises(InputError, match=r"env\.step\(\) got action"):
            locked.step(action)


def test_undo_brings_the_mask_before_back_and_uses_up_a_click(env):
    undo = UndoAction(env)
    assert undo.action_space.nvec.tolist() == [10, 24, 20, 4]
    undo.reset()
    first, gained, *_, before = undo.step([5, 10, 9, 1])
    _, lost, *_ = undo.step([5, 10, 9, 0])
    observation, reward, terminated, truncated, info = undo.step([0, 0, 0, 3])
    assert (observation["mask"] == first["mask"]).all()
    assert clicks(observation) == [(5, 10, 9, 1)]
    assert reward == pytest.approx(-lost)
    assert info["dice"] == before["dice"] == gained
    assert (info["clicks_used"], terminated, truncated) == (3, False, False)
    assert "click 3/10 5,10,9,+" in undo.render()


def test_undo_of_the_first_click_and_without_clicks(env):
    undo = UndoAction(env)
    undo.reset()
    undo.step([5, 10, 9, 1])
    observation, reward, *_, info = undo.step([0, 0, 0, 3])
    assert not observation["mask"].any()
    assert (info["dice"], info["clicks_used"]) == (0.0, 2)
    observation, reward, *_, info = undo.step([0, 0, 0, 3])
    assert (reward, info["dice"], info["clicks_used"]) == (0.0, 0.0, 3)
    assert clicks(undo.step([5, 10, 9, 1])[0]) == [(5, 10, 9, 1)]


def test_undoing_without_end_is_truncated(volume):
    undo = UndoAction(VolumeEnv(image=volume, structure="box", segmenter=BallSegmenter(), max_clicks=3))
    undo.reset()
    ends = [undo.step([0, 0, 0, 3])[2:4] for _ in range(3)]
    assert ends == [(False, False), (False, False), (False, True)]


def test_a_segmenter_that_cannot_undo_is_a_model_error(volume, monkeypatch):
    env = UndoAction(VolumeEnv(image=volume, structure="box", segmenter=BreakingSegmenter()))
    env.reset()
    dice = env.step([5, 10, 9, 1])[4]["dice"]
    monkeypatch.setattr(env.unwrapped.segmenter.session, "undo", lambda: 1 / 0)
    _, reward, terminated, _, info = env.step([0, 0, 0, 3])
    assert (reward, terminated, info["outcome"], info["dice"]) == (-dice, True, "model_error", 0.0)


def test_other_actions_carry_undo_on(env):
    flat = FlatAction(UndoAction(env))
    assert flat.action_space.n == 9602
    assert flat.action(9601).tolist() == [0, 0, 0, 3]
    continuous = ContinuousAction(UndoAction(env))
    assert continuous.action([0, 0, 0, 0, 0, 1])[3] == 3
    assert SliceLockedAction(UndoAction(env)).action_space.nvec.tolist() == [24, 20, 4]


@pytest.mark.parametrize("wrapper", [FlatAction, ContinuousAction, SliceLockedAction, UndoAction])
def test_actions_are_changed_once(env, wrapper):
    with pytest.raises(InputError, match=wrapper.__name__):
        wrapper(FlatAction(env))
