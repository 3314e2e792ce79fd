"""Tests the choice of an episode's case and structure."""

from dataclasses import replace

import numpy as np
import pytest
from ball_segmenter import BallSegmenter

from synthfm_env import InputError, SyntheticEnv, SynthFM3D, VolumeEnv, save_volume, to_uint8
from synthfm_env.envs.synthetic_env import MIN_VOXELS, fair_targets


def synthetic(**kwargs):
    return SyntheticEnv(**{"shape": (12, 32, 32), "segmenter": BallSegmenter(), "reveal_truth": True, **kwargs})


def test_a_seed_is_one_case_of_the_generator():
    observation, info = synthetic(recipe="mr").reset(seed=3)
    case = SynthFM3D(shape=(12, 32, 32), recipe="mr").sample(int(np.random.default_rng(3).integers(2**31)))
    assert info["case_id"] == case.case_id
    assert (observation["image"] == to_uint8(case.image, case.modality)).all()
    assert (info["truth"] == case.truth(info["structure"])).all()


def test_synthetic_episodes_differ_in_case_and_never_have_a_tiny_target():
    env = synthetic()
    infos = [env.reset(seed=seed)[1] for seed in range(25)]
    assert len({info["case_id"] for info in infos}) == 25
    assert min(info["truth"].sum() for info in infos) >= MIN_VOXELS


def test_structures_of_one_case_are_all_drawn():
    labels = np.repeat([0, 1, 2, 3, 9], [30, MIN_VOXELS, MIN_VOXELS - 1, 70, 200]).reshape(1, 1, -1)
    assert fair_targets(labels).tolist() == [1, 3, 9]
    assert fair_targets(np.zeros((2, 2, 2), int)).size == 0


def test_a_structure_of_a_fresh_case_can_be_asked_for():
    env = synthetic()
    volume = env.draw_task(None).volume
    some = max(int(i) for i in np.unique(volume.label))
    env.reset(seed=8)
    case = env.reset(seed=8)[1]["case_id"]
    _, info = env.reset(seed=8, options={"structure": 1})
    assert info["case_id"] == case
    with pytest.raises(InputError, match="not in the label"):
        env.reset(seed=8, options={"structure": some + 1000})


def test_a_grid_without_room_for_targets_says_so(monkeypatch):
    empty = replace(SynthFM3D(shape=(12, 32, 32)).sample(0), label=np.zeros((12, 32, 32), np.int16))
    monkeypatch.setattr(SynthFM3D, "sample", lambda self, seed: empty)
    with pytest.raises(InputError, match="take a larger shape or another recipe"):
        synthetic().reset(seed=0)


@pytest.mark.parametrize(("kwargs", "message"), [({"recipe": "anny"}, "any"), ({"shape": (12, 32)}, "shape")])
def test_wrong_generator_arguments_are_explained(kwargs, message):
    with pytest.raises(InputError, match=message):
        synthetic(**kwargs)


def test_a_volume_draws_among_its_structures_unless_one_is_given(volume):
    drawn = VolumeEnv(image=volume, segmenter=BallSegmenter())
    assert {drawn.reset(seed=seed)[1]["structure"] for seed in range(20)} == {"box", "rod"}
    fixed = VolumeEnv(image=volume, segmenter=BallSegmenter(), structure=7)
    assert {fixed.reset(seed=seed)[1]["structure"] for seed in range(20)} == {"rod"}
    assert fixed.reset(options={"structure": "box"})[1]["structure"] == "box"
    assert fixed.reset()[1]["structure"] == "rod"


def test_an_unnamed_structure_goes_by_its_id(volume):
    env = VolumeEnv(image=replace(volume, structures={}), segmenter=BallSegmenter(), structure=7)
    assert env.reset()[1]["structure"] == "7"


def test_files_and_volume_give_the_same_episode(volume, tmp_path):
    image, label = tmp_path / "i.nii.gz", tmp_path / "l.nii.gz"
    save_volume(volume, image, label)
    from_files = VolumeEnv(image=str(image), label=label, structure=1, segmenter=BallSegmenter())
    from_memory = VolumeEnv(image=volume, structure=1, segmenter=BallSegmenter())
    assert (from_files.reset()[0]["image"] == from_memory.reset()[0]["image"]).all()
    action = [5, 10, 9, 1]
    assert from_files.step(action)[4]["dice"] == from_memory.step(action)[4]["dice"]


def test_a_volume_without_truth_is_refused(volume, tmp_path):
    image = tmp_path / "i.nii.gz"
    save_volume(volume, image)
    with pytest.raises(InputError, match="give label=PATH"):
        VolumeEnv(image=image, segmenter=BallSegmenter())
    with pytest.raises(InputError, match=r"nowhere\.nii\.gz"):
        VolumeEnv(image="nowhere.nii.gz", segmenter=BallSegmenter())
