"""Tests data sets in suites: found, broken and missing files."""

import shutil
from pathlib import Path

import made_layouts as made
import numpy as np
import pytest
from rich.console import Console

from synthfm_bench.execution.run import run_suite
from synthfm_bench.plan import make_plan
from synthfm_bench.results.run_directory import read_run
from synthfm_bench.suite import DatasetData, Suite, load_suite, with_choices
from synthfm_env.errors import InputError
from synthfm_env.volumes import Volume, save_volume
from synthfm_env.volumes.datasets import check as datasets
from synthfm_env.volumes.datasets import get_layout

QUIET = Console(stderr=True, quiet=True)
PAPERS = ("synthfm-table1", "synthfm-table3", "synthfm3d", "sam2-3dmed")


@pytest.fixture
def own(tmp_path) -> Path:
    """A folder of five cases, one of which lacks a structure and one of which is broken."""
    root = tmp_path / "own"
    for name in ("imagesTr", "labelsTr"):
        (root / name).mkdir(parents=True)
    for number in range(5):
        label = np.zeros((4, 20, 20), dtype=np.int16)
        label[1:3, 3:9, 3:9] = 1
        if number:
            label[1:3, 12:18, 12:18] = 2
        volume = Volume((label * 50).astype(np.float32), label)
        save_volume(volume, root / f"imagesTr/case{number}_0000.nii.gz", root / f"labelsTr/case{number}.nii.gz")
    broken = root / "imagesTr/case3_0000.nii.gz"
    broken.write_bytes(broken.read_bytes()[:100])
    (root / "dataset.json").write_text('{"channel_names": {"0": "CT"}, "labels": {"liver": 1, "spleen": 2}}')
    return root


def suite(root: Path, **fields) -> Suite:
    data = DatasetData(**({"kind": "dataset", "name": "own", "layout": "folder", "path": root} | fields))
    return Suite(name="small", segmenters=("toys:Ball",), clickers=("random",), clicks=2, data=(data,))


def test_a_broken_file_among_good_ones_is_counted_and_the_run_goes_on(own, tmp_path):
    played = suite(own)
    done = run_suite(played, make_plan(played), out=tmp_path / "run", workers=1, console=QUIET)
    run = read_run(done.folder)
    assert sorted({one.case_id for one in run.episodes}) == ["case0", "case1", "case2", "case4"]
    assert {(one.structure, one.modality) for one in run.episodes} == {("liver", "CT"), ("spleen", "CT")}
    (left_out,) = run.about["left_out"]
    assert (left_out["data"], left_out["image"]) == ("own", "case3")
    assert "case3_0000.nii.gz: cannot be read as NIfTI" in left_out["why"]
    (note,) = run.about["notes"]
    assert note.startswith("1 image of own left out, not readable: ")


def test_structures_are_chosen_by_name_and_may_be_missing_in_a_case(own):
    plan = make_plan(suite(own, structures=("spleen",)))
    assert [(spec.case.case_id, spec.structure) for spec in plan.specs] == [("case1", 2), ("case2", 2), ("case4", 2)]
    assert "own: spleen is not in 1 image, which count without it" in plan.notes
    with pytest.raises(InputError, match="own: unknown structure 'lever': did you mean liver"):
        make_plan(suite(own, structures=("lever",)))


def test_cases_are_chosen_evenly(own):
    assert [job.specs[0].case.case_id for job in make_plan(suite(own, cases=3)).jobs] == ["case0", "case2", "case4"]


def test_the_packaged_suite_plays_a_folder_that_is_named(own):
    played = with_choices(load_suite("folder"), segmenters=("toys:Ball",), clickers=("random",), root=own, cases=1)
    (job,) = make_plan(played).jobs
    assert job.specs[0].case.case_id == "case0"
    assert played.data[0].path == own.absolute()


@pytest.mark.parametrize("name", [*PAPERS, "folder"])
def test_a_suite_without_its_data_says_which_files_it_expects(tmp_path, name):
    played = with_choices(load_suite(name), segmenters=("toys:Ball",), clickers=("random",), root=tmp_path / "data")
    with pytest.raises(InputError) as error:
        make_plan(played)
    text = str(error.value)
    assert text.startswith(f"suite {name}: nothing is left to play; ")
    first, *others = played.data
    assert f"{first.name} is left out: {first.path}: there is no such folder; layout '{first.layout}'" in text
    assert text.count("left out") == 1  # one line that can be read, whatever the number of groups
    assert (f"; {len(others)} more note" in text) == bool(others)


def test_a_data_root_that_is_one_of_the_data_sets_names_what_was_expected_and_found(own):
    played = with_choices(load_suite("synthfm-table1"), segmenters=("toys:Ball",), clickers=("random",), root=own)
    with pytest.raises(InputError) as error:
        make_plan(played)
    text = str(error.value)
    assert f"{own}/amos22/imagesTr/amos_0001.nii.gz" in text
    assert f"found in {own}: dataset.json, imagesTr/, labelsTr/" in text


@pytest.mark.parametrize("name", PAPERS)
def test_the_papers_suites_name_structures_that_their_layouts_have(tmp_path, name):
    from synthfm_env.volumes.datasets import get_layout, wanted_ids

    for group in load_suite(name).data:
        layout = get_layout(group.layout)
        assert group.part in (layout.parts or (None,))
        if layout.structures:
            assert len(wanted_ids(group.structures, layout.structures)) >= 1


def test_one_group_of_several_may_be_missing(own, tmp_path):
    there, missing = (suite(own).data[0], DatasetData(kind="dataset", name="gone", layout="hc18", path=tmp_path / "no"))
    played = suite(own).model_copy(update={"data": (there, missing)})
    plan = make_plan(played)
    assert {spec.case.data.name for spec in plan.specs} == {"own"}
    assert any(note.startswith("gone is left out: ") and "training_set/000_HC.png" in note for note in plan.notes)


def test_a_check_counts_what_can_be_played(own):
    lines = list(datasets.report_lines(datasets.check(own, "folder", QUIET)))
    assert lines[:3] == ["4 images of 4 patients can be played", "  liver: in 4", "  spleen: in 3"]
    assert lines[3] == "1 image cannot be read, and would be left out:"
    assert "case3_0000.nii.gz" in lines[4]


def test_a_check_names_each_missing_file(own):
    (own / "labelsTr/case1.nii.gz").unlink()
    (own / "imagesTr/case2_0000.nii.gz").unlink()
    (own / "case9").mkdir()
    shutil.copy(own / "imagesTr/case0_0000.nii.gz", own / "case9/image.nii.gz")
    lines = list(datasets.report_lines(datasets.check(own, "folder", QUIET)))
    at = lines.index("3 images would be left out, a file is missing:")
    assert lines[at + 1 :] == [
        f"  {own / 'labelsTr/case1.nii.gz'}",
        f"  {own / 'imagesTr/case2_0000.nii.gz'}",
        f"  {own / 'case9/label.nii.gz'}",
    ]
    assert any(note.startswith("3 images of own left out, a file is missing") for note in make_plan(suite(own)).notes)


def test_a_check_names_structures_whose_file_is_missing_or_broken(tmp_path):
    made.totalsegmentator_cases(tmp_path, "ct.nii.gz", ("s0001", "s0002"))
    masks = tmp_path / "s0001/segmentations"
    (masks / "kidney_right.nii.gz").unlink()
    (masks / "liver.nii.gz").write_bytes(b"broken")
    lines = list(datasets.report_lines(datasets.check(tmp_path, "totalsegmentator", QUIET)))
    for name in ("kidney right", "liver"):
        at = lines.index(f"CT: {name} of 1 image cannot be read, and would be left out:")
        assert str(masks / f"{name.replace(' ', '_')}.nii.gz") in lines[at + 1]
    assert not [line for line in lines if "rib" in line]  # of which the copy has no file at all


def test_a_number_of_amos_is_no_channel(tmp_path):
    made.amos_cases(tmp_path, ("0004", "0007"))
    (tmp_path / "labelsTr/amos_0007.nii.gz").unlink()
    assert get_layout("amos").unpaired(tmp_path, "CT") == [tmp_path / "labelsTr/amos_0007.nii.gz"]


def test_frames_of_camus_without_a_truth_are_missing_in_all_parts(tmp_path):
    made.camus(tmp_path)
    lost = next(tmp_path.rglob("*_2CH_half_sequence_gt.nii.gz"))
    lost.unlink()
    assert get_layout("camus").unpaired(tmp_path, "2CH-sequence") == [lost]


def test_a_challenge_case_without_a_truth_names_the_file_that_was_expected(tmp_path):
    (tmp_path / "3D_val_npz").mkdir()
    np.savez(tmp_path / "3D_val_npz/CT_a.npz", imgs=np.zeros((2, 8, 8), np.uint8), spacing=np.ones(3))
    (item,) = get_layout("cvpr25").items(tmp_path)
    with pytest.raises(InputError, match=r"expected it there or in .*3D_val_gt/CT_a\.npz"):
        get_layout("cvpr25").load(item)


def test_a_run_of_a_folder_does_not_depend_on_its_path(own, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.copytree(own, moved)
    found = []
    for place in (own, moved):
        played = suite(place, cases=2)
        found.append(run_suite(played, make_plan(played), out=place / "run", workers=1, console=QUIET).results_hash)
    assert found[0] == found[1]
