"""Tests the windows and slices of training clips."""

import numpy as np

from synthfm_train.sam2.clip_dataset import _exposed, _pick_targets, _random_slices, _random_windows

LABEL = np.zeros((4, 64, 80), np.int16)
LABEL[0, 10:20, 30:50] = 3  # rows 10 to 25 and columns 30 to 55 over all slices
LABEL[2, 15:25, 35:55] = 3
LABEL[0, 50:60, 5:15] = 7


def test_windows_are_around_an_object_a_pixel_of_one_or_anywhere() -> None:
    seen = {0: 0, 3: 0, 7: 0}
    whole = inside = 0
    for seed in range(400):
        rows, columns, focus = _random_windows(LABEL, (0.35, 1.0), np.random.default_rng(seed))
        seen[focus] += 1
        assert 0 <= rows.start < rows.stop <= 64
        assert 0 <= columns.start < columns.stop <= 80
        if focus:
            assert (LABEL[0, rows, columns] == focus).any() or (LABEL[:, rows, columns] == focus).any()
        if focus == 3:
            # Rows 10 to 25 and columns 30 to 55, over all slices; a margin of 4 and more is what the engine leaves.
            whole += rows.start <= 6 and rows.stop >= 29 and columns.start <= 25 and columns.stop >= 60
            inside += rows.stop - rows.start < 15 and columns.stop - columns.start < 20
    assert 90 < seen[0] < 190
    assert min(seen[3], seen[7]) > 90
    assert whole > 40
    assert inside > 5


def test_neighbours_are_adjacent_or_as_far_apart_as_in_an_overview() -> None:
    label = np.zeros((192, 8, 8), np.int16)
    label[40:90, 2:6, 2:6] = 1
    strides = []
    for seed in range(200):
        picked = _random_slices(label, 8, "both", np.random.default_rng(seed))
        steps = set(np.diff(picked).tolist())
        assert len(steps) == 1, "slices are evenly spread"
        strides.append(abs(steps.pop()))
        assert picked.min() >= 0
        assert picked.max() < 192
    assert min(strides) == 1
    assert max(strides) == 12  # a sixteenth of the volume
    assert 0.3 < np.mean(np.array(strides) <= 3) < 0.8


def test_exposure_keeps_the_order_of_grey_levels() -> None:
    frames = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    changed = 0
    for seed in range(40):
        bent = _exposed(frames, np.random.default_rng(seed)).reshape(-1).astype(int)
        assert (np.diff(bent) >= 0).all()
        assert bent[-1] - bent[0] > 0.3 * 255
        changed += bool((bent != np.arange(256)).any())
    assert 10 < changed < 30


def test_the_object_in_focus_is_the_first_to_segment() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        assert _pick_targets(np.array([2, 5, 9, 11]), 3, 9, rng)[0] == 9
        picked = _pick_targets(np.array([2, 5]), 4, 0, rng)
        assert sorted(set(picked.tolist())) == [2, 5]
        assert len(picked) == 4


def test_clips_of_one_direction_run_upwards():
    label = np.ones((40, 8, 8), dtype=np.uint8)
    steps = [np.diff(_random_slices(label, 6, "up", np.random.default_rng(seed))) for seed in range(20)]
    assert all((step > 0).all() for step in steps)
