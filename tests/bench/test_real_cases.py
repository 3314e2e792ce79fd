"""Tests the study that plays segmenters on a folder of real cases."""

import numpy as np
import pytest
import toys
from study_import import imported_study

from synthfm_env.errors import UserFacingError
from synthfm_env.volumes import Volume


@pytest.fixture(scope="module")
def study():
    with imported_study("real_cases") as module:
        yield module


@pytest.fixture
def volume():
    label = np.zeros((8, 24, 24), np.int16)
    label[2:6, 3:17, 3:17] = 1
    return Volume((label * 50).astype(np.float32), label, case_id="scan")


def test_an_episode_has_a_dice_and_seconds_for_each_click(study, volume):
    (played,) = study.play(volume, toys.Ball(), most=1, clicks=4)
    assert (played.case, played.group, played.segmenter) == ("scan", "other 3D", "ball")
    assert len(played.dice) == 4
    assert played.dice[-1] > 0
    assert 0 < played.surface < 1
    assert played.seconds == [0.25] * 4


def test_a_failure_of_the_segmenter_is_named(study, volume):
    with pytest.raises(
        UserFacingError, match=r"^scan, structure 1, click 3: .* ended with model_error: .*out of ideas"
    ):
        study.play(volume, toys.FailsAtThirdClick(), most=1, clicks=4)
