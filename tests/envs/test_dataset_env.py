"""Tests episodes on the cases of a data set: splits, the fixed grid, the cache, broken files."""

import json
import logging
import os
import sys

import gymnasium as gym
import numpy as np
import pytest
from ball_segmenter import BallSegmenter
from env_cases import small_dataset, small_volume

from synthfm_env import DatasetEnv, InputError, Volume, save_volume
from synthfm_env.metrics import dice
from synthfm_env.volumes.case_cache import CaseCache
from synthfm_env.volumes.case_source import case_sources
from synthfm_env.volumes.case_splits import split_cases
from synthfm_env.volumes.fixed_grid import FixedGrid, NativeTruth, count_native, native_voxels


@pytest.fixture
def folder(tmp_path):
    return small_dataset(tmp_path / "data", cases=8)


@pytest.fixture
def dataset(folder, tmp_path):
    def make(**kwargs):
        small = {"spacing": (3.0, 1.0, 1.0), "shape": (8, 24, 20), "cache": tmp_path / "cache", "reveal_truth": True}
        return DatasetEnv(**{"data": folder, "segmenter": BallSegmenter(), **small, **kwargs})

    return make


def test_no_case_is_in_two_splits_and_the_seed_decides(dataset):
    env = dataset(split="test", fractions=(0.5, 0.25, 0.25), split_seed=3)
    parts = env.pool.splits
    assert {name: len(cases) for name, cases in parts.items()} == {"train": 4, "validation": 2, "test": 2}
    assert len({case for cases in parts.values() for case in cases}) == 8
    drawn = {env.reset(seed=seed)[1]["case_id"] for seed in range(20)}
    assert drawn == set(parts["test"])
    assert dataset(fractions=(0.5, 0.25, 0.25), split_seed=4).pool.splits != parts
    assert split_cases(["b", "a", "b"], (1, 0, 0), 0)["train"] == ["a", "b"]


def test_images_of_one_patient_stay_together():
    cases = [f"patient{i // 3}" for i in range(30)]
    parts = split_cases(cases, (0.6, 0.2, 0.2), 1)
    assert sum(map(len, parts.values())) == 10


def test_seeds_draw_cases_and_structures(dataset):
    env = dataset(split="all")
    infos = [env.reset(seed=seed)[1] for seed in range(30)]
    assert {info["structure"] for info in infos} == {"1", "7"}
    assert len({info["case_id"] for info in infos}) == 8
    assert {info["split"] for info in infos} == {"all"}
    again = dataset(split="all")
    assert [again.reset(seed=seed)[1]["case_id"] for seed in range(5)] == [info["case_id"] for info in infos[:5]]


def test_native_dice_is_that_of_the_mask_put_back_onto_the_native_grid():
    rng = np.random.default_rng(0)
    label = (rng.random((9, 21, 17)) < 0.3).astype(np.int16)
    native = (2.0, 0.7, 1.1)
    for spacing, shape in [((2.5, 1.0, 1.0), (6, 12, 15)), ((1.0, 0.5, 0.6), (20, 30, 30))]:
        grid = FixedGrid(spacing, shape)
        corner, counts, total = count_native(grid, label, native, 1)
        truth = NativeTruth(corner, counts, native_voxels(grid, label.shape, native), total)
        mask = rng.random(shape) < 0.4
        put_back = np.zeros(label.shape, bool)
        targets = grid.targets(label.shape, native)
        for index in np.ndindex(label.shape):
            at = [targets[axis][i] for axis, i in enumerate(index)]
            put_back[index] = min(at) >= 0 and mask[tuple(at)]
        assert truth.dice(mask) == pytest.approx(dice(put_back, label == 1))


def test_a_grid_of_the_images_own_spacing_and_shape_changes_nothing(dataset):
    volume = small_volume()
    grid = FixedGrid(volume.spacing, volume.image.shape)
    image = np.random.default_rng(1).integers(0, 256, volume.image.shape).astype(np.uint8)
    assert (grid.resample_image(image, volume.spacing) == image).all()
    assert (grid.resample_label(volume.label, volume.spacing) == volume.label).all()
    env = dataset(split="all", spacing=volume.spacing, shape=volume.image.shape)
    env.reset(seed=0)
    for _ in range(3):
        info = env.step(np.append(np.argwhere(env.reset(seed=2)[1]["truth"])[5], 1))[4]
        assert info["dice_native"] == pytest.approx(info["dice"])


def test_the_crop_does_not_depend_on_the_label(folder, tmp_path):
    for number in range(8):
        path = folder / f"labelsTr/case{number}.nii.gz"
        label = np.zeros((10, 24, 20), np.int16)
        label[4:7, 10:16, 8:14] = 1
        save_volume(Volume(np.zeros(label.shape, np.float32), label, (3.0, 1.0, 1.0)), tmp_path / "i.nii.gz", path)
    grid = FixedGrid((3.0, 1.5, 1.5), (8, 16, 16))
    moved = [
        CaseCache(tmp_path / "a", grid).open(source).volume(grid) for source in case_sources(folder, "folder", None)
    ]
    before = small_dataset(tmp_path / "before", cases=8)
    first = [
        CaseCache(tmp_path / "b", grid).open(source).volume(grid) for source in case_sources(before, "folder", None)
    ]
    assert all((a.image == b.image).all() for a, b in zip(moved, first, strict=True))


def test_cases_are_decoded_once_and_mapped_from_disk(dataset, tmp_path, monkeypatch):
    env = dataset(split="all")
    first = env.reset(seed=1)[0]
    monkeypatch.setattr("synthfm_env.volumes.datasets.nnunet.load_volume", lambda *args, **kwargs: 1 / 0)
    again = dataset(split="all")
    assert (again.reset(seed=1)[0]["image"] == first["image"]).all()
    assert isinstance(again._drawn[1].label, np.memmap)


def test_a_changed_file_or_a_damaged_cache_is_decoded_again(folder, tmp_path):
    grid = FixedGrid((3.0, 1.5, 1.5), (8, 16, 16))
    source = case_sources(folder, "folder", None)[0]
    case = CaseCache(tmp_path / "cache", grid).open(source)
    (case.folder / "label.npy").write_bytes(b"cut")
    assert CaseCache(tmp_path / "cache", grid).open(source).volume(grid).label.any()
    other = small_volume()
    save_volume(
        Volume(other.image + 1, other.label * 2, other.spacing),
        folder / "imagesTr/case0_0000.nii.gz",
        folder / "labelsTr/case0.nii.gz",
    )
    changed = CaseCache(tmp_path / "cache", grid).open(case_sources(folder, "folder", None)[0])
    assert set(changed.structures) == {2, 14}


@pytest.mark.parametrize("content", ["{}", "[1]", "3", "null", '{"structures": {"1": 3}}', "[" * 100_000])
def test_a_cached_description_of_wrong_content_is_written_again(folder, tmp_path, content):
    grid = FixedGrid((3.0, 1.5, 1.5), (8, 16, 16))
    source = case_sources(folder, "folder", None)[0]
    case = CaseCache(tmp_path / "cache", grid).open(source)
    (case.folder / "case.json").write_text(content)
    assert CaseCache(tmp_path / "cache", grid).open(source).about == case.about


@pytest.mark.parametrize(("key", "value"), [("offset", 10**6), ("size", [1, 1]), ("voxels", "many"), ("name", None)])
def test_a_cached_structure_of_wrong_content_is_written_again(folder, tmp_path, key, value):
    grid = FixedGrid((3.0, 1.5, 1.5), (8, 16, 16))
    source = case_sources(folder, "folder", None)[0]
    case = CaseCache(tmp_path / "cache", grid).open(source)
    about = json.loads((case.folder / "case.json").read_text())
    about["structures"]["1"][key] = value
    (case.folder / "case.json").write_text(json.dumps(about))
    assert CaseCache(tmp_path / "cache", grid).open(source).about == case.about


def test_a_changed_description_of_the_data_set_is_read(folder, tmp_path):
    grid = FixedGrid((3.0, 1.5, 1.5), (8, 16, 16))

    def names(path):
        return CaseCache(tmp_path / "cache", grid).open(case_sources(path, "folder", None)[0]).structures

    assert names(folder)[1] == "1"
    (folder / "dataset.json").write_text('{"labels": {"1": "liver"}}')
    assert names(folder)[1] == "liver"
    case = tmp_path / "cases" / "a"
    case.mkdir(parents=True)
    save_volume(small_volume(), case / "image.nii.gz", case / "label.nii.gz")
    assert names(case.parent)[1] == "1"
    (case / "meta.json").write_text('{"labels": {"1": "spleen"}}')
    assert names(case.parent)[1] == "spleen"


def test_label_ids_above_32767_are_kept(dataset, tmp_path):
    volume = small_volume()
    label = volume.label.astype(np.int32)
    label[label == 7] = 65537  # would be 1 in 16 bits
    path = tmp_path / "large" / "a"
    path.mkdir(parents=True)
    save_volume(Volume(volume.image, label, volume.spacing), path / "image.nii.gz", path / "label.nii.gz")
    env = dataset(data=path.parent, split="all", spacing=volume.spacing, shape=volume.image.shape)
    for structure in (1, 65537):
        info = env.reset(seed=0, options={"structure": structure})[1]
        assert (info["truth"] == (label == structure)).all()


def test_case_folders_follow_the_umask(folder, tmp_path):
    before = os.umask(0o022)
    try:
        cache = CaseCache(tmp_path / "cache", FixedGrid((3.0, 1.5, 1.5), (8, 16, 16)))
        case = cache.open(case_sources(folder, "folder", None)[0])
    finally:
        os.umask(before)
    assert case.folder.stat().st_mode & 0o777 == 0o755


def test_a_cache_that_cannot_be_written_is_no_fault_of_the_cases(dataset, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    env = dataset(split="all")
    monkeypatch.setattr(np, "save", full)
    with pytest.raises(InputError, match=r"cache .*: cannot be written \(No space left on device\); give cache=FOLDER"):
        env.reset(seed=0)
    assert not env.pool.passed_over


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder that even root cannot write to")
def test_a_read_only_cache_is_refused_at_once(dataset):
    with pytest.raises(InputError, match="cache /proc/self: cannot be written"):
        dataset(cache="/proc/self")


def test_a_broken_file_is_named_and_passed_over(dataset, folder, caplog):
    (folder / "imagesTr/case3_0000.nii.gz").write_bytes(b"no image")
    env = dataset(split="all")
    with caplog.at_level(logging.WARNING):
        drawn = {env.reset(seed=seed)[1]["case_id"] for seed in range(40)}
    assert drawn == {f"case{i}" for i in range(8)} - {"case3"}
    assert list(env.pool.passed_over) == ["case3"]
    assert "case3_0000.nii.gz" in caplog.text


def test_a_structure_that_cropping_removes_is_passed_over_and_counted(dataset):
    env = dataset(split="all", shape=(8, 8, 8), structures=[7])
    with pytest.raises(InputError, match=r"none of its 8 images can be played: case.*no 7 of 50 voxels or more"):
        env.reset(seed=0)
    assert len(env.pool.passed_over) == 8


def test_a_vector_environment_shares_the_cases(dataset, folder, tmp_path):
    kwargs = {"data": str(folder), "cache": str(tmp_path / "cache"), "spacing": [3, 1, 1], "shape": [8, 24, 20]}
    vector = gym.make_vec("SynthFM/Dataset-v0", num_envs=3, segmenter=BallSegmenter(), split="all", **kwargs)
    assert vector.envs[0].pool is vector.envs[2].pool
    single = dataset(split="all")
    observations, infos = vector.reset(seed=4)
    assert infos["dice_native"].shape == (3,)
    assert (observations["image"][2] == single.reset(seed=6)[0]["image"]).all()


def test_tables_of_a_suite_and_a_toml_file_give_all_kinds_of_data(folder, tmp_path):
    text = f"""
[[data]]
kind = "dataset"
name = "boxes"
layout = "folder"
path = "{folder.name}"
cases = 2

[[data]]
kind = "files"
name = "mine"
image = "{folder.name}/imagesTr/case1_0000.nii.gz"
label = "{folder.name}/labelsTr/case1.nii.gz"

[[data]]
kind = "synthetic"
name = "mr"
shape = [8, 32, 32]
recipe = "mr"
cases = 2
"""
    path = folder.parent / "suite.toml"
    path.write_text(text)
    sources = case_sources(path, "folder", None)
    assert [source.image_id for source in sources] == ["boxes/case0", "boxes/case7", "mine", "mr/0", "mr/1"]
    json.dumps([source.identity for source in sources])
    assert all(source.load().label is not None for source in sources)


def _table(folder, name="boxes", **keys):
    return {"kind": "dataset", "name": name, "layout": "folder", "path": str(folder), **keys}


def test_the_side_of_a_table_keeps_its_test_patients_out_of_training(dataset, folder):
    test, train = (_table(folder, name, split={"side": name, "train": 0.5, "seed": 3}) for name in ("test", "train"))
    env = dataset(data=[test], split="test")
    held_out = {case.removeprefix("test/") for case in env.pool.splits["test"]}
    assert len(held_out) == 4
    assert env.pool.splits["train"] == env.pool.splits["validation"] == []
    with pytest.raises(InputError, match=r"holds no case.*side 'test' only to 'test'"):
        dataset(data=[test], split="train")
    # Another table on the folder does not bring a test patient back, whatever its name.
    parts = dataset(data=[test, train, _table(folder, "all")]).pool.splits
    patients = {name: {case.partition("/")[2] for case in cases} for name, cases in parts.items()}
    assert patients["test"] == held_out
    assert patients["train"] | patients["validation"] == {f"case{i}" for i in range(8)} - held_out
    assert not patients["train"] & patients["validation"]


def test_a_patient_in_several_tables_is_in_one_split(dataset, folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    file = {
        "kind": "files",
        "name": "mine",
        "image": str(folder / "imagesTr/case1_0000.nii.gz"),
        "label": str(folder / "labelsTr/case1.nii.gz"),
    }
    parts = dataset(data=[_table(folder, "a"), _table(tmp_path / "link", "b"), file]).pool.splits
    split_of = {case: name for name, cases in parts.items() for case in cases}
    assert all(split_of[f"a/case{i}"] == split_of[f"b/case{i}"] for i in range(8))
    assert split_of["mine"] == split_of["a/case1"]


def test_images_of_a_table_are_chosen_as_a_suite_does(folder):
    (image, label) = (folder / "imagesVa", folder / "labelsVa")
    for new, old in ((image, folder / "imagesTr"), (label, folder / "labelsTr")):
        new.mkdir()
        for file in old.iterdir():
            (new / file.name).write_bytes(file.read_bytes())
    assert len(case_sources([_table(folder)], "folder", None)) == 16
    assert len(case_sources([_table(folder, images=1, cases=3)], "folder", None)) == 3


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"slices": "largest"}, "slices = 'largest' cannot be honoured: the environment plays whole volumes"),
        ({"tolerance_mm": 1.0}, "tolerance_mm = 1.0 cannot be honoured"),
        ({"structure": ["liver"]}, "unknown key.*structure.*did you mean structures"),
        ({"structures": "liver"}, "structures is 'liver': expected a list"),
        ({"structures": [True]}, "expected a list of label ids or names"),
        ({"cases": "many"}, "cases is 'many': expected a whole number of 1 or more"),
        ({"cases": -1}, "cases is -1"),
        ({"images": 0}, "images is 0"),
        ({"path": 3}, "path is 3: expected a path"),
        ({"part": 3}, "part is 3"),
        ({"split": {"side": "tests"}}, "expected a table of side"),
        ({"split": {"sid": "test"}}, "expected a table of side"),
        ({"kind": "files", "image": 3, "label": "y.nii.gz"}, "unknown key|image is 3"),
        ({"kind": 3}, "unknown kind of data"),
    ],
)
def test_a_key_of_a_table_is_honoured_or_refused(dataset, folder, keys, message):
    with pytest.raises(InputError, match=message):
        dataset(data=[{**_table(folder), **keys}], split="all")


@pytest.mark.parametrize(
    "keys", [{"cases": "many"}, {"cases": -1}, {"shape": 8}, {"recipe": 3}, {"env": "CartPole-v1"}]
)
def test_wrong_values_of_a_synthetic_table_are_refused(dataset, keys):
    table = {"kind": "synthetic", "name": "a", "shape": [8, 32, 32], "cases": 2, **keys}
    with pytest.raises(InputError, match=rf"data\[0\]: {next(iter(keys))} is"):
        dataset(data=[table])


def test_two_tables_of_one_name_are_refused(dataset, folder):
    with pytest.raises(InputError, match="two tables have the name 'boxes'"):
        dataset(data=[_table(folder), _table(folder)])


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"split": "tests"}, "did you mean test"),
        ({"split": "test", "fractions": (1, 0, 0)}, "split='test' holds no case: fractions .* of 8 cases"),
        ({"fractions": (0.5, 0.5)}, "expected three shares"),
        ({"split_seed": -1}, "split_seed is -1"),
        ({"structures": "liver"}, "expected a list of label ids or names"),
        ({"structures": [None]}, "expected a list of label ids or names"),
        ({"spacing": (1, 0, 1)}, "spacing is"),
        ({"spacing": (1e-9, 1, 1)}, "expected lengths from 1e-06 to 1000 mm"),
        ({"spacing": (1, 1, 1e9)}, "expected lengths from 1e-06 to 1000 mm"),
        ({"shape": (8, 8)}, "shape is"),
        ({"shape": (10**4, 10**4, 10**4)}, r"a grid of shape \(10000, 10000, 10000\) needs .* of memory"),
        ({"layout": "nnunet-raw"}, "unknown layout"),
        ({"data": "/nowhere"}, "there is no such folder"),
        ({"data": [{"kind": "zip"}]}, "unknown kind of data"),
        ({"data": [{"kind": "files", "name": "x"}]}, "lacks the key 'image'"),
        ({"data": []}, "data is empty"),
        ({"start": "box"}, "takes no box"),
    ],
)
def test_wrong_arguments_are_explained(dataset, kwargs, message):
    with pytest.raises(InputError, match=message):
        dataset(**kwargs)


def test_long_lists_of_structures_are_shortened(dataset, tmp_path):
    volume = small_volume()
    label = (np.arange(volume.label.size) % 52).reshape(volume.label.shape).astype(np.int16)
    path = tmp_path / "many" / "a"
    path.mkdir(parents=True)
    save_volume(Volume(volume.image, label, volume.spacing), path / "image.nii.gz", path / "label.nii.gz")
    env = dataset(data=path.parent, split="all", structures=["liver"])
    with pytest.raises(InputError, match="a: no liver; it holds 1, 2, 3, 4, 5 and 46 more"):
        env.reset(seed=0)


def test_a_structure_that_no_case_has_is_explained(dataset):
    with pytest.raises(InputError, match="no liver; it holds 1, 7"):
        dataset(structures=["liver"]).reset(seed=0)
    with pytest.raises(InputError, match="'liver' is not on the grid; it holds 1, 7"):
        dataset().reset(seed=0, options={"structure": "liver"})


def test_the_goal_numbers_the_structures_of_all_splits(dataset):
    env = dataset(goal="structure", split="train")
    assert env.goal_names() == ["1", "7"]
    observation, info = env.reset(seed=0)
    assert env.goal_names()[observation["goal"]] == info["structure"]
