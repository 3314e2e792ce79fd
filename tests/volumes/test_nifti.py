"""Tests reading and writing of NIfTI files."""

import gzip
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform

from synthfm_env.errors import InputError
from synthfm_env.volumes import Volume, load_volume, save_mask, save_volume

SHAPE_XYZ = (6, 5, 4)
ORIENTATIONS = [
    "".join(code) for axes in itertools.permutations(("RL", "AP", "SI")) for code in itertools.product(*axes)
]


Writer = Callable[..., Path]


def oblique_affine() -> np.ndarray:
    """Return a RAS affine with unequal voxels, a tilt and an offset."""
    angle = np.deg2rad(12)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([0.8, 1.1, 3.0])
    affine[:3, 3] = (-40, 25, 300)
    return affine


@pytest.fixture
def write(tmp_path: Path) -> Writer:
    """Return a function that stores an (x, y, z) RAS array in any orientation."""

    def write_file(
        name: str,
        array: np.ndarray,
        *,
        axes: str = "RAS",
        affine: np.ndarray | None = None,
        qform: int = 1,
        sform: int = 2,
        units: str = "mm",
    ) -> Path:
        turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(axes))
        stored_affine = (oblique_affine() if affine is None else affine) @ inv_ornt_aff(turn, array.shape)
        file = nib.Nifti1Image(apply_orientation(array, turn), stored_affine)
        file.set_qform(stored_affine, code=qform)
        file.set_sform(stored_affine, code=sform)
        file.header.set_xyzt_units(units)
        path = tmp_path / name
        nib.save(file, path)
        return path

    return write_file


def ramp(shape: tuple[int, ...] = SHAPE_XYZ, dtype: type = np.int16) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=dtype).reshape(shape)


def test_all_48_orientations_are_meant() -> None:
    assert len(set(ORIENTATIONS)) == 48


@pytest.mark.parametrize("axes", ORIENTATIONS)
def test_every_orientation_loads_alike_and_takes_a_mask_back(write: Writer, tmp_path: Path, axes: str) -> None:
    array = ramp()
    volume = load_volume(write("a.nii", array, axes=axes))
    assert np.array_equal(volume.image, array.transpose(2, 1, 0))
    assert volume.image.dtype == np.float32
    assert volume.image.flags.c_contiguous
    np.testing.assert_allclose(volume.spacing, (3.0, 1.1, 0.8), rtol=1e-5)
    assert volume.affine is not None
    np.testing.assert_allclose(volume.affine, oblique_affine(), atol=1e-4)

    save_mask(volume.image % 7 == 0, volume, tmp_path / "mask.nii.gz")
    source, mask = nib.load(tmp_path / "a.nii"), nib.load(tmp_path / "mask.nii.gz")
    assert np.array_equal(np.asarray(mask.dataobj), np.asarray(source.dataobj) % 7 == 0)
    assert mask.get_data_dtype() == np.uint8
    assert np.array_equal(mask.affine, source.affine)
    for field in ("qform_code", "sform_code", "pixdim", "xyzt_units"):
        assert np.array_equal(mask.header[field], source.header[field])
    for field in ("srow_x", "srow_y", "srow_z", "quatern_b", "quatern_c", "quatern_d", "qoffset_x"):
        assert np.array_equal(mask.header[field], source.header[field])


@pytest.mark.parametrize("codes", [(0, 0), (1, 0), (0, 4), (3, 2)])
def test_form_codes_and_units_are_kept(write: Writer, tmp_path: Path, codes: tuple[int, int]) -> None:
    path = write("a.nii.gz", ramp(), axes="LPS", qform=codes[0], sform=codes[1], units="micron")
    volume = load_volume(path)
    save_mask(volume.image > 3, volume, tmp_path / "mask.nii")
    source, mask = nib.load(path), nib.load(tmp_path / "mask.nii")
    assert (int(mask.header["qform_code"]), int(mask.header["sform_code"])) == codes
    assert mask.header.get_xyzt_units()[0] == "micron"
    assert np.array_equal(mask.affine, source.affine)
    assert np.array_equal(np.asarray(mask.dataobj), np.asarray(source.dataobj) > 3)


def test_microns_become_millimetres(write: Writer) -> None:
    volume = load_volume(write("a.nii", ramp(), units="micron"))
    np.testing.assert_allclose(volume.spacing, (0.003, 0.0011, 0.0008), rtol=1e-5)
    assert volume.affine is not None
    np.testing.assert_allclose(volume.affine[:3], oblique_affine()[:3] / 1000, rtol=1e-5, atol=1e-9)


def test_slope_and_intercept_are_applied(tmp_path: Path) -> None:
    file = nib.Nifti1Image(ramp(), np.eye(4))
    file.header.set_slope_inter(0.5, -10)
    nib.save(file, tmp_path / "a.nii.gz")
    volume = load_volume(tmp_path / "a.nii.gz")
    assert np.array_equal(volume.image, ramp().transpose(2, 1, 0) * 0.5 - 10)
    save_mask(volume.image > 0, volume, tmp_path / "m.nii.gz")
    assert set(np.unique(nib.load(tmp_path / "m.nii.gz").get_fdata())) == {0.0, 1.0}


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 1), (6, 5, 1, 1), (6, 5, 4, 1), (6, 5, 4, 1, 1)])
def test_short_and_trailing_axes_are_read(tmp_path: Path, shape: tuple[int, ...]) -> None:
    array = ramp(shape)
    nib.save(nib.Nifti1Image(array, np.diag([-1.0, -1, 1, 1])), tmp_path / "a.nii.gz")
    volume = load_volume(tmp_path / "a.nii.gz")
    depth = shape[2] if len(shape) > 2 else 1
    assert volume.image.shape == (depth, 5, 6)
    assert np.array_equal(volume.image, array.reshape(6, 5, depth).transpose(2, 1, 0)[:, ::-1, ::-1])
    save_mask(volume.image > 7, volume, tmp_path / "mask.nii.gz")
    mask = nib.load(tmp_path / "mask.nii.gz")
    assert mask.shape == shape
    assert np.array_equal(np.asarray(mask.dataobj), array > 7)


@pytest.mark.parametrize(("axes", "cut"), [("ASR", "sagittal"), ("RSA", "coronal"), ("SLP", "coronal")])
def test_a_single_slice_is_one_slice_however_it_was_cut(write: Writer, tmp_path: Path, axes: str, cut: str) -> None:
    ras_shape = (1, 6, 5) if cut == "sagittal" else (6, 1, 5)
    array = ramp(ras_shape)
    volume = load_volume(write("a.nii", array, axes=axes))
    assert volume.image.shape == (1, 5, 6)
    assert np.array_equal(volume.image[0], array.reshape(6, 5).T)
    assert volume.affine is not None
    corner = volume.affine @ (5, 4, 0, 1)
    expected = oblique_affine() @ ((0, 5, 4, 1) if cut == "sagittal" else (5, 0, 4, 1))
    np.testing.assert_allclose(corner, expected, atol=1e-3)
    assert volume.spacing[0] == pytest.approx(0.8 if cut == "sagittal" else 1.1, rel=1e-5)
    save_mask(volume.image > 9, volume, tmp_path / "mask.nii")
    source = np.asarray(nib.load(tmp_path / "a.nii").dataobj)
    assert np.array_equal(np.asarray(nib.load(tmp_path / "mask.nii").dataobj), source > 9)


def test_rgb_becomes_grey(tmp_path: Path) -> None:
    array = np.zeros((3, 2, 1), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    array["R"][0, 0], array["G"][1, 0], array["B"][2, 0] = 100, 100, 100
    nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / "a.nii.gz")
    volume = load_volume(tmp_path / "a.nii.gz")
    np.testing.assert_allclose(volume.image[0, 0], (29.9, 58.7, 11.4), rtol=1e-6)
    save_mask(volume.image > 20, volume, tmp_path / "m.nii.gz")
    assert np.asarray(nib.load(tmp_path / "m.nii.gz").dataobj)[:, 0, 0].tolist() == [1, 1, 0]


def test_nifti_2_and_pairs_are_read(tmp_path: Path) -> None:
    for name, kind in (("two.nii.gz", nib.Nifti2Image), ("pair.img", nib.Nifti1Pair)):
        nib.save(kind(ramp(), oblique_affine()), tmp_path / name)
        volume = load_volume(tmp_path / name)
        assert np.array_equal(volume.image, ramp().transpose(2, 1, 0))
        save_mask(volume.image > 9, volume, tmp_path / "mask.nii.gz")
        mask = nib.load(tmp_path / "mask.nii.gz")
        assert np.array_equal(np.asarray(mask.dataobj), ramp() > 9)
        assert np.array_equal(mask.affine, nib.load(tmp_path / name).affine)


def test_a_label_in_another_orientation_is_aligned_with_the_image(write: Writer) -> None:
    ids = ramp() % 4
    image, label = write("a.nii", ramp(), axes="LPS"), write("l.nii.gz", ids.astype(np.float32), axes="PIR")
    volume = load_volume(image, label)
    assert volume.label is not None
    assert np.array_equal(volume.label, ids.transpose(2, 1, 0))
    assert volume.label.dtype == np.int16
    assert volume.structures == {1: "1", 2: "2", 3: "3"}


def test_rounding_in_a_header_is_no_other_grid_but_half_a_voxel_is(write: Writer) -> None:
    image = write("a.nii", ramp())
    near, far = oblique_affine(), oblique_affine()
    near[0, 3] += 0.3
    far[0, 3] += 0.5
    load_volume(image, write("near.nii", ramp() % 2, affine=near))
    with pytest.raises(InputError, match=r"far.nii: is elsewhere than .*a.nii.* 0.5 mm apart; resample"):
        load_volume(image, write("far.nii", ramp() % 2, affine=far))


@pytest.mark.parametrize(
    ("label", "words"),
    [
        (np.zeros(SHAPE_XYZ, np.uint8), "holds no structure"),
        (ramp((6, 5, 3)) % 2, r"label grid \(3, 5, 6\) is unlike \(4, 5, 6\)"),
        (np.full(SHAPE_XYZ, 0.37, np.float32), "whole numbers, found 0.37"),
        (ramp() - 3, "start at 0, found -3"),
        (np.full(SHAPE_XYZ, np.nan, np.float32), "120 voxels that are NaN"),
        (np.zeros(SHAPE_XYZ, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")]), "l.nii.gz has voxels of type"),
    ],
)
def test_unusable_labels_are_named(write: Writer, tmp_path: Path, label: np.ndarray, words: str) -> None:
    image = write("a.nii", ramp(), affine=np.eye(4))
    nib.save(nib.Nifti1Image(label, np.eye(4)), tmp_path / "l.nii.gz")
    with pytest.raises(InputError, match=words) as caught:
        load_volume(image, tmp_path / "l.nii.gz")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((3, 3, 3, 7), np.int16), r"7 volumes \(shape \(3, 3, 3, 7\)\).*four_to_three"),
        (np.zeros((3, 3, 1, 1, 3), np.float32), "3 volumes"),
        (np.array([[[1.0, np.nan, np.inf]]]), "2 voxels that are NaN or infinite.*nan_to_num"),
        (np.array([[[1.0, 1e300]]]), "1 voxels that are NaN or infinite"),
        (np.zeros((2, 2, 2), np.complex64), "complex64"),
        (np.zeros(5, np.float32), r"shape \(5,\)"),
    ],
)
def test_unusable_images_are_named(tmp_path: Path, array: np.ndarray, words: str) -> None:
    nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / "a.nii.gz")
    with pytest.raises(InputError, match=words) as caught:
        load_volume(tmp_path / "a.nii.gz")
    assert "a.nii.gz" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("keep", [0, 10, 200, 400, 0.5, 0.95])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_truncated_files_are_named(tmp_path: Path, name: str, keep: float) -> None:
    noise = np.random.default_rng(0).integers(0, 999, (20, 20, 20)).astype(np.int16)
    nib.save(nib.Nifti1Image(noise, np.eye(4)), tmp_path / name)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: int(keep if keep >= 1 else keep * len(data))])
    with pytest.raises(InputError, match=name) as caught:
        load_volume(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_flipped_bit_in_a_gz_is_found(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 2**15, (20, 20, 20)).astype(np.int16)
    plain = nib.Nifti1Image(noise, np.eye(4)).to_bytes()
    packed = bytearray(gzip.compress(plain, compresslevel=0))  # stored blocks: only the checksum can tell
    packed[len(packed) // 2] ^= 1
    (tmp_path / "a.nii.gz").write_bytes(packed)
    with pytest.raises(InputError, match=r"a.nii.gz: cannot be read"):
        load_volume(tmp_path / "a.nii.gz")


def test_other_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "text.nii.gz").write_text("hello")
    (tmp_path / "text.nii").write_text("hello" * 200)
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"0" * 400)
    nib.save(nib.MGHImage(ramp().astype(np.float32), np.eye(4)), tmp_path / "brain.mgz")
    for name in ("text.nii.gz", "text.nii", "picture.png", "brain.mgz", "absent.nii.gz", "."):
        with pytest.raises(InputError) as caught:
            load_volume(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_header_without_voxel_size_is_named(tmp_path: Path) -> None:
    flat = np.diag([1.0, 0, 1, 1])
    file = nib.Nifti1Image(ramp(), np.eye(4))
    file.header.set_sform(flat, code=1)
    file.header.set_qform(None, code=0)
    nib.save(nib.Nifti1Image(ramp(), None, file.header), tmp_path / "a.nii")
    with pytest.raises(InputError, match="gives voxels no size"):
        load_volume(tmp_path / "a.nii")


@pytest.mark.parametrize(
    ("values", "modality"),
    [
        ([-1024, 0, 800], "CT"),
        ([-500, 0, 800], "CT"),
        ([-499, 0, 800], "other"),
        ([-1024.5, 0, 1], "other"),
        ([0, 5, 9], "other"),
    ],
)
def test_modality_is_guessed_from_the_air_of_ct(tmp_path: Path, values: list[float], modality: str) -> None:
    nib.save(nib.Nifti1Image(np.array([[values]], np.float32), np.eye(4)), tmp_path / "a.nii.gz")
    assert load_volume(tmp_path / "a.nii.gz").modality == modality
    assert load_volume(tmp_path / "a.nii.gz", modality="US").modality == "US"


def test_the_case_is_named_by_file_or_folder(write: Writer, tmp_path: Path) -> None:
    (tmp_path / "case_7").mkdir()
    assert load_volume(write("liver_3.v2.nii.gz", ramp())).case_id == "liver_3.v2"
    assert load_volume(write("case_7/imaging.nii.gz", ramp())).case_id == "case_7"
    assert load_volume(write("x.nii", ramp()), case_id="mine").case_id == "mine"


def test_metadata_is_plain_and_without_free_text(tmp_path: Path) -> None:
    file = nib.Nifti1Image(ramp(), np.eye(4))
    file.header["descrip"] = b"Jane Doe"
    nib.save(file, tmp_path / "a.nii.gz")
    volume = load_volume(tmp_path / "a.nii.gz")
    assert json.loads(json.dumps(volume.metadata)) == volume.metadata
    save_mask(volume.image > 0, volume, tmp_path / "m.nii")
    assert b"Jane Doe" not in (tmp_path / "m.nii").read_bytes()


@pytest.mark.parametrize("names", [("i.nii.gz", "l.nii.gz"), ("i.nii", "l.nii")])
@pytest.mark.parametrize("affine", [None, oblique_affine()])
def test_a_volume_comes_back_as_it_was(tmp_path: Path, names: tuple[str, str], affine: np.ndarray | None) -> None:
    rng = np.random.default_rng(0)
    volume = Volume(
        image=rng.normal(size=(4, 5, 6)).astype(np.float32),
        label=rng.integers(0, 3, (4, 5, 6)).astype(np.int64),
        spacing=(3.0, 1.1, 0.8),
        affine=affine,
    )
    save_volume(volume, tmp_path / names[0], tmp_path / names[1])
    back = load_volume(tmp_path / names[0], tmp_path / names[1])
    assert back.label is not None
    assert np.array_equal(back.image, volume.image)
    assert np.array_equal(back.label, volume.label)
    np.testing.assert_allclose(back.spacing, volume.spacing, rtol=1e-6)
    assert back.affine is not None
    np.testing.assert_allclose(back.affine, np.diag([0.8, 1.1, 3, 1]) if affine is None else affine, atol=1e-5)


def test_equal_volumes_give_equal_bytes(tmp_path: Path) -> None:
    volume = Volume(image=np.ones((2, 3, 4), np.float32), label=np.ones((2, 3, 4), np.int16))
    save_volume(volume, tmp_path / "a.nii.gz")
    save_volume(volume, tmp_path / "b.nii.gz")
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_a_failed_write_leaves_nothing_and_spares_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = Volume(image=np.ones((2, 3, 4), np.float32))
    save_mask(volume.image, volume, tmp_path / "m.nii.gz")
    before = (tmp_path / "m.nii.gz").read_bytes()

    def full_disk(self: nib.Nifti1Image, stream: object, **_: object) -> None:
        stream.write(b"half")  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nib.Nifti1Image, "to_stream", full_disk)
    with pytest.raises(InputError, match=r"m.nii.gz: cannot be written \(No space left on device\)"):
        save_mask(volume.image, volume, tmp_path / "m.nii.gz")
    assert [path.name for path in tmp_path.iterdir()] == ["m.nii.gz"]
    assert (tmp_path / "m.nii.gz").read_bytes() == before


def test_unusable_targets_are_named(tmp_path: Path) -> None:
    volume = Volume(image=np.ones((2, 3, 4), np.float32))
    with pytest.raises(InputError, match=r"\(4, 3, 2\) is unlike the volume's \(2, 3, 4\)"):
        save_mask(np.ones((4, 3, 2), bool), volume, tmp_path / "m.nii.gz")
    with pytest.raises(InputError, match=r"ends in .nii or .nii.gz"):
        save_mask(volume.image, volume, tmp_path / "m.png")
    with pytest.raises(InputError, match=r"absent.*cannot be written \(No such file or directory\)"):
        save_mask(volume.image, volume, tmp_path / "absent" / "m.nii.gz")
    with pytest.raises(InputError, match="no label"):
        save_volume(volume, tmp_path / "i.nii.gz", tmp_path / "l.nii.gz")
    assert not list(tmp_path.iterdir())
