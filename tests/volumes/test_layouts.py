import made_layouts as made
import numpy as np
import pytest
from made_layouts import LPS, SHAPE, boxes, image_of

from synthfm_env.errors import InputError
from synthfm_env.volumes.datasets import get_layout, list_layouts, wanted_ids
from synthfm_env.volumes.datasets.fetal import fill_ellipse
from synthfm_env.volumes.structure_names import canonical_name, structure_kind
from synthfm_env.volumes.volume import Volume

# Of each layout: who writes a copy, the part, the cases with their images, and structures with their voxels.
BOX = {count: {key: int((boxes(count) == key).sum()) for key in range(1, count + 1)} for count in (1, 2, 3, 4)}
FLAT = {key: int((boxes(3, (1, 24, 20)) == key).sum()) for key in (1, 2, 3)}
LAYOUTS = [
    ("amos", made.amos, "CT", [("amos_0004", "amos_0004")], {"spleen": 1, "kidney right": 2, "kidney left": 3}, BOX[3]),
    ("amos", made.amos, "MR", [("amos_0507", "amos_0507")], {"spleen": 1}, BOX[3]),
    ("msd", made.msd, None, [("spleen_2", "spleen_2")], {"spleen": 1}, BOX[1]),
    ("chaos", made.chaos, "CT", [("CT-5", "CT-5-CT")], {"liver": 1}, BOX[1]),
    ("chaos", made.chaos, "T2", [("MR-1", "MR-1-T2")], {"liver": 1, "spleen": 4}, BOX[4]),
    ("chaos", made.chaos, "T1-in", [("MR-1", "MR-1-T1-in")], {"kidney left": 3}, BOX[4]),
    ("chaos", made.chaos, "T1-out", [("MR-1", "MR-1-T1-out")], {"kidney right": 2}, BOX[4]),
    (
        "totalsegmentator",
        made.totalsegmentator,
        "CT",
        [("s0011", "s0011")],
        {"liver": 5, "spleen": 1},
        {5: BOX[2][1], 1: BOX[2][2]},
    ),
    (
        "camus",
        made.camus,
        "2CH-ED",
        [("patient0001", "patient0001_2CH_ED")],
        {"left ventricle": 1, "left ventricle wall": 2, "left atrium": 3},
        FLAT,
    ),
    ("camus", made.camus, "4CH-ES", [("patient0001", "patient0001_4CH_ES")], {"left atrium": 3}, FLAT),
    ("camus", made.camus_mhd, "2CH-ED", [("patient0002", "patient0002_2CH_ED")], {"left ventricle": 1}, FLAT),
    ("fh-ps-aop", made.fh_ps_aop, None, [("00001", "00001"), ("00002", "00002")], {"fetal head": 2}, None),
]


@pytest.mark.parametrize(("name", "make", "part", "ids", "structures", "voxels"), LAYOUTS)
def test_a_copy_of_a_layout_is_found_and_read(tmp_path, name, make, part, ids, structures, voxels):
    make(tmp_path)
    layout = get_layout(name)
    items = layout.items(tmp_path, part)
    assert [(item.case_id, item.image_id) for item in items] == ids
    for item in items:
        volume = layout.load(item)
        assert volume.case_id == item.case_id
        assert volume.image.dtype == np.float32
        assert volume.label is not None
        for structure, key in structures.items():
            np.testing.assert_array_equal(volume.truth(structure), volume.label == key)
        if voxels:
            assert {int(k): int((volume.label == k).sum()) for k in np.unique(volume.label) if k} == voxels
        # The image was made from the truth, so each structure has one intensity wherever both lie now.
        for key in np.unique(volume.label):
            assert np.ptp(volume.image[volume.label == key]) <= 1


def test_chaos_slices_are_put_in_order_by_their_places_and_keep_their_masks(tmp_path):
    made.chaos(tmp_path)
    layout = get_layout("chaos")
    (item,) = layout.items(tmp_path, "CT")
    volume = layout.load(item)
    # The patient's left is right in the picture of DICOM; z runs from foot to head, y from back to front.
    expected = boxes(1)[:, ::-1, ::-1]
    np.testing.assert_array_equal(volume.label, expected)
    np.testing.assert_array_equal(volume.image, image_of(expected) - 1000)
    assert volume.spacing == pytest.approx((2.5, 0.8, 0.8))
    assert volume.modality == "CT"
    corner = volume.affine @ (0, 0, 0, 1)
    assert corner[:3] == pytest.approx((8 - 0.8 * 19, 9 - 0.8 * 23, 0))


def test_a_file_of_nifti_and_a_dicom_series_of_the_same_body_agree(tmp_path):
    made.chaos(tmp_path)
    affine = LPS.copy()
    affine[:3, 3] = (8, 9, 0)
    made.nifti(tmp_path / "nifti/images/CT-5.nii.gz", image_of(boxes(1)) - 1000, affine)
    made.nifti(tmp_path / "nifti/labels/CT-5.nii.gz", boxes(1), affine)
    chaos, own = get_layout("chaos"), get_layout("folder")
    one = chaos.load(chaos.items(tmp_path, "CT")[0])
    other = own.load(own.items(tmp_path / "nifti")[0])
    np.testing.assert_array_equal(one.label, other.label)
    np.testing.assert_array_equal(one.image, other.image)
    np.testing.assert_allclose(one.affine, other.affine)


def test_chaos_masks_must_match_the_slices(tmp_path):
    made.chaos(tmp_path)
    (tmp_path / "Train_Sets/CT/5/Ground/liver_GT_002.png").unlink()
    layout = get_layout("chaos")
    with pytest.raises(InputError, match="5 slices and 4 masks"):
        layout.load(layout.items(tmp_path, "CT")[0])


def test_a_folder_may_hold_three_forms(tmp_path):
    made.folder(tmp_path)
    layout = get_layout("folder")
    found = {item.case_id: layout.load(item) for item in layout.items(tmp_path)}
    assert {case: (v.modality, v.structures) for case, v in found.items()} == {
        "a": ("CT", {1: "liver", 2: "spleen"}),
        "b": ("CT", {1: "liver", 2: "spleen"}),
        "c": ("US", {1: "prostate"}),
        "d": ("CT", {1: "liver", 2: "spleen"}),
    }


def test_only_the_structures_that_are_wanted_are_read(tmp_path):
    made.totalsegmentator(tmp_path)
    (tmp_path / "s0011/segmentations/spleen.nii.gz").write_bytes(b"broken")
    layout = get_layout("totalsegmentator")
    (item,) = layout.items(tmp_path, "CT")
    assert set(np.unique(layout.load(item, ["liver", "brain"]).label)) == {0, 5}
    with pytest.raises(InputError, match=r"segmentations: holds none of heart\.nii\.gz"):
        layout.load(item, ["heart"])


def test_a_structure_whose_file_is_missing_or_broken_is_left_out_and_named(tmp_path):
    made.totalsegmentator(tmp_path)
    (tmp_path / "s0011/segmentations/spleen.nii.gz").write_bytes(b"broken")
    layout = get_layout("totalsegmentator")
    volume = layout.load(layout.items(tmp_path, "CT")[0], ["liver", "spleen", "kidney right"])
    assert volume.structures == {5: "liver"}
    assert set(np.unique(volume.label)) == {0, 5}
    left_out = volume.metadata["left_out"]
    assert set(left_out) == {"spleen", "kidney right"}
    assert "spleen.nii.gz: cannot be read" in left_out["spleen"]
    assert "kidney_right.nii.gz" in left_out["kidney right"]


def test_structures_of_one_meaning_have_one_name_in_all_layouts():
    names = {layout: set(get_layout(layout).structures.values()) for layout in list_layouts()}
    every = set().union(*names.values())
    assert {canonical_name(name) for name in every} == every
    assert "kidney right" in names["amos"] & names["chaos"] & names["totalsegmentator"]
    for other in ("right kidney", "kidney_right", "Right_Kidney", "kidney right"):
        assert wanted_ids([other], get_layout("amos").structures) == [2]
        assert wanted_ids([other], get_layout("totalsegmentator").structures) == [2]
    volume = Volume(np.zeros((1, 2, 2), np.float32), np.ones((1, 2, 2), int), structures={1: "kidney_right"})
    assert volume.truth("right kidney").all()


@pytest.mark.parametrize(
    ("name", "kind"),
    [("interphase 12", "interphase"), ("lesion #3", "lesion"), ("rib left 3", "rib left 3"), ("vertebrae L3",) * 2],
)
def test_instances_are_pooled_by_kind(name, kind):
    assert structure_kind(name) == kind


def test_totalsegmentator_has_its_117_structures():
    structures = get_layout("totalsegmentator").structures
    assert len(set(structures.values())) == 117
    # Some ids as the program prints them.
    assert [structures[i] for i in (5, 26, 50, 51, 69, 90, 92, 117)] == [
        "liver",
        "vertebrae S1",
        "vertebrae C1",
        "heart",
        "humerus left",
        "brain",
        "rib left 1",
        "costal cartilages",
    ]


def test_a_sequence_is_a_volume_of_frames(tmp_path):
    made.camus(tmp_path)
    layout = get_layout("camus")
    (item,) = layout.items(tmp_path, "2CH-sequence")
    volume = layout.load(item)
    assert volume.image.shape == (6, 24, 20)
    assert volume.spacing == pytest.approx((1.0, 0.15, 0.15))
    # The wall, id 2, is in all frames but the last two; ids shrink one by one along the frames.
    assert [set(np.unique(frame)) - {0} for frame in volume.label] == [{1, 2, 3}] * 3 + [{1, 2}, {1}, set()]


def test_the_first_release_of_camus_has_its_own_spacing_and_no_truth_for_sequences(tmp_path):
    made.camus_mhd(tmp_path)
    layout = get_layout("camus")
    assert layout.load(layout.items(tmp_path, "2CH-ED")[0]).spacing == pytest.approx((1.54, 0.154, 0.308))
    with pytest.raises(InputError, match="holds no image with a label"):
        layout.items(tmp_path, "2CH-sequence")


def test_hc18_outlines_are_filled_and_examinations_are_cases(tmp_path):
    made.hc18(tmp_path)
    layout = get_layout("hc18")
    items = layout.items(tmp_path)
    assert [(item.case_id, item.image_id) for item in items] == [
        ("000", "000_HC"),
        ("010", "010_2HC"),
        ("010", "010_HC"),
    ]
    volume = layout.load(items[0])
    assert volume.spacing == (1.0, 0.0691, 0.0691)
    inside, outline = made.ring((60, 80), (30, 40), (20, 25))
    np.testing.assert_array_equal(volume.truth("fetal head")[0], inside | outline)


@pytest.mark.parametrize("middle", [(30, 15), (12, 40), (10, 12), (48, 66)])
@pytest.mark.parametrize("turn", [0.0, 0.5])
def test_an_outline_that_the_edge_cuts_open_is_completed(middle, turn):
    inside, outline = made.ring((60, 80), middle, (18, 25), turn)
    np.testing.assert_array_equal(fill_ellipse(outline), inside | outline)


def test_an_outline_with_a_gap_is_refused():
    _, outline = made.ring((60, 80), (30, 40), (20, 25))
    outline[28:32] = False
    with pytest.raises(ValueError, match="is open and encloses nothing"):
        fill_ellipse(outline)


def test_hc18_pixel_sizes_must_be_known(tmp_path):
    made.hc18(tmp_path)
    layout = get_layout("hc18")
    (item, *_) = layout.items(tmp_path)
    table = tmp_path / "training_set_pixel_size_and_HC.csv"
    table.write_text(table.read_text(encoding="utf-8").replace("000_HC.png", "999_HC.png"))
    with pytest.raises(InputError, match="has no line for 000_HC"):
        layout.load(item)
    table.write_text("filename,size\n000_HC.png,1\n")
    with pytest.raises(InputError, match="expected columns 'filename' and 'pixel size"):
        layout.load(item)
    table.unlink()
    with pytest.raises(InputError, match="no such file, so pixel sizes are not known"):
        layout.load(item)


def test_alfi_cells_are_structures_and_sequences_are_cases(tmp_path):
    made.alfi(tmp_path)
    layout = get_layout("alfi")
    items = layout.items(tmp_path, "cells")
    assert [item.case_id for item in items] == ["MI01", "MI01", "MI06", "MI06"]
    cells = layout.load(items[0])
    assert cells.structures == {1: "interphase 1", 2: "interphase 2", 3: "mitotic 1"}
    assert [int((cells.label == key).sum()) for key in (1, 2, 3)] == [400, 400, 400]
    classes = layout.load(layout.items(tmp_path, "classes")[0])
    assert classes.structures == {1: "interphase", 2: "mitotic"}
    assert int((classes.label == 1).sum()) == 809


PARTS = [(name, part) for name in list_layouts() for part in get_layout(name).parts or (None,)]


def test_the_files_that_are_expected_are_those_of_the_part():
    assert get_layout("totalsegmentator").expected_files("MR")[0] == "s0000/mri.nii.gz"
    assert get_layout("amos").expected_files("MR") == ("imagesTr/amos_0507.nii.gz", "labelsTr/amos_0507.nii.gz")
    assert get_layout("chaos").expected_files("T1-in")[0] == "Train_Sets/MR/1/T1DUAL/DICOM_anon/InPhase/*.dcm"
    camus = get_layout("camus").expected_files("4CH-ED")
    assert camus[0] == "database_nifti/patient0001/patient0001_4CH_ED.nii.gz"


@pytest.mark.parametrize(("name", "part"), PARTS)
def test_a_folder_of_something_else_says_what_was_expected(tmp_path, name, part):
    (tmp_path / "notes.txt").write_text("nothing\n")
    layout = get_layout(name)
    with pytest.raises(InputError) as error:
        layout.items(tmp_path, part)
    assert f"{tmp_path}: holds no image with a label; layout '{name}'" in str(error.value)
    assert str(tmp_path / layout.expected_files(part or "")[0]) in str(error.value)
    assert layout.address in str(error.value)
    with pytest.raises(InputError, match="there is no such folder"):
        layout.items(tmp_path / "nowhere", part)


def test_a_layout_accepts_only_its_parts(tmp_path):
    with pytest.raises(InputError, match="unknown part of layout 'amos' 'C': did you mean CT"):
        get_layout("amos").items(tmp_path, "C")
    with pytest.raises(InputError, match="layout 'hc18' has no parts"):
        get_layout("hc18").items(tmp_path, "CT")


BROKEN = [
    ("chaos", made.chaos, "CT", "Train_Sets/CT/5/DICOM_anon/i0001,0000b.dcm", "cannot be read as DICOM"),
    ("chaos", made.chaos, "T2", "Train_Sets/MR/1/T2SPIR/Ground/IMG-0002-00001.png", "cannot be read as an image"),
    ("camus", made.camus_mhd, "2CH-ED", "training/patient0002/patient0002_2CH_ED.mhd", "cannot be read"),
    ("hc18", made.hc18, None, "training_set/000_HC.png", "cannot be read as an image"),
    ("alfi", made.alfi, "cells", "Data&Annotations/MI01/Masks/M_MI01_0001.png", "cannot be read as an image"),
    ("amos", made.amos, "CT", "labelsTr/amos_0004.nii.gz", "cannot be read as NIfTI"),
]


@pytest.mark.parametrize(("name", "make", "part", "file", "message"), BROKEN)
@pytest.mark.parametrize("keep", [0, 0.5])
def test_a_broken_file_is_named(tmp_path, name, make, part, file, message, keep):
    make(tmp_path)
    path = tmp_path / file
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    layout = get_layout(name)
    with pytest.raises(InputError, match=message) as error:
        layout.load(layout.items(tmp_path, part)[0])
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_wanted_structures_are_ids_or_names():
    names = {1: "liver", 4: "spleen"}
    assert wanted_ids(["spleen", 1, "4"], names) == [4, 1]
    assert wanted_ids([], names) == [1, 4]
    with pytest.raises(InputError, match="unknown structure 'lever': did you mean liver"):
        wanted_ids(["lever"], names)
    with pytest.raises(InputError, match="unknown structure '3'"):
        wanted_ids([3], names)
    assert wanted_ids([7], {}) == [7]


def test_the_same_grid_is_asked_of_a_mask(tmp_path):
    made.totalsegmentator(tmp_path)
    made.nifti(tmp_path / "s0011/segmentations/liver.nii.gz", np.ones((SHAPE[0], SHAPE[1], 9), dtype=np.uint8))
    layout = get_layout("totalsegmentator")
    with pytest.raises(InputError, match=r"liver\.nii\.gz: label grid \(5, 24, 9\) is unlike \(5, 24, 20\)"):
        layout.load(layout.items(tmp_path, "CT")[0], ["liver"])


def test_simple_itk_is_asked_for_by_its_extra(tmp_path, monkeypatch):
    made.fh_ps_aop(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "SimpleITK", None)
    layout = get_layout("fh-ps-aop")
    with pytest.raises(InputError, match=r'pip install "synthfm_env\[data\]"'):
        layout.load(layout.items(tmp_path)[0])


def test_a_folder_of_another_layout_says_what_was_expected_and_what_is_there(tmp_path):
    made.hc18(tmp_path)
    with pytest.raises(InputError) as error:
        get_layout("amos").items(tmp_path, "CT")
    text = str(error.value)
    assert str(tmp_path / "imagesTr/amos_0001.nii.gz") in text
    assert text.endswith("found there: test_set/, training_set/, training_set_pixel_size_and_HC.csv")
    assert "\n" not in text
