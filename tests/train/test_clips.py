"""What clips show: an object in focus as the engine's zoom would cut it, in half of them."""

import numpy as np

from synthfm_train.data import _pick, _random_windows

LABEL = np.zeros((4, 64, 80), np.int16)
LABEL[0, 10:20, 30:50] = 3  # rows 10 to 25 and columns 30 to 55 over all slices
LABEL[2, 15:25, 35:55] = 3
LABEL[0, 50:60, 5:15] = 7


def test_a_window_in_focus_holds_its_object_with_a_margin_and_the_others_are_random() -> None:
    seen = {0: 0, 3: 0, 7: 0}
    for seed in range(200):
        rows, columns, focus = _random_windows(LABEL, (0.35, 1.0), np.random.default_rng(seed))
        seen[focus] += 1
        assert 0 <= rows.start < rows.stop <= 64
        assert 0 <= columns.start < columns.stop <= 80
        if focus == 3:
            assert rows.start <= 6
            assert rows.stop >= 29
            assert columns.start <= 25
            assert columns.stop >= 60
            assert columns.stop - columns.start <= 25 * (1 + 2 * 0.9) + 1
    assert 70 < seen[0] < 130
    assert min(seen[3], seen[7]) > 25


def test_the_object_in_focus_is_the_first_to_segment() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        assert _pick(np.array([2, 5, 9, 11]), 3, 9, rng)[0] == 9
        picked = _pick(np.array([2, 5]), 4, 0, rng)
        assert sorted(set(picked.tolist())) == [2, 5]
        assert len(picked) == 4
