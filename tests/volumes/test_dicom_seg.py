import numpy as np
import pytest

pytest.importorskip("highdicom", reason="the extra data is not installed")
import pydicom
import SimpleITK
from dicom_series import SHAPE, write_series

from synthfm_env.errors import InputError
from synthfm_env.memory_limit import MemoryLimitError
from synthfm_env.volumes import Volume, save_mask
from synthfm_env.volumes.dicom_seg import DICOM_SERIES, load_dicom_series, save_dicom_seg, series_order

ORIENTATIONS = {
    "axial": ((1, 0, 0), (0, 1, 0)),
    "axial from head to foot": ((1, 0, 0), (0, -1, 0)),
    "coronal": ((1, 0, 0), (0, 0, -1)),
    "sagittal": ((0, 1, 0), (0, 0, -1)),
    "oblique": ((0.96, 0.28, 0), (-0.28, 0.96, 0)),
}


@pytest.fixture(params=ORIENTATIONS.values(), ids=ORIENTATIONS.keys())
def series(request, tmp_path):
    array = write_series(tmp_path / "scan", *request.param)
    (tmp_path / "scan" / "notes.txt").write_text("no DICOM\n")
    return tmp_path / "scan", array


def test_a_series_becomes_a_canonical_volume(series):
    folder, array = series
    volume = load_dicom_series(folder)
    assert volume.modality == "CT"
    assert volume.case_id == "scan"
    order, shape = series_order(volume)
    assert shape == SHAPE
    assert np.array_equal(order.from_volume(volume.image), array - 1000)
    assert (np.diag(volume.affine[:3, :3]) > 0).all()
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    for zyx in ((0, 0, 0), (1, 2, 3), tuple(n - 1 for n in volume.image.shape)):
        mm = (volume.affine @ (*reversed(zyx), 1))[:3] * (-1, -1, 1)
        assert image[image.TransformPhysicalPointToIndex(mm.tolist())] == volume.image[zyx]


def test_a_mask_written_as_seg_is_read_back_at_its_place(series, tmp_path):
    volume = load_dicom_series(series[0])
    mask = np.zeros(volume.image.shape, dtype=bool)
    mask[1:3, 2:4, 1:5] = True
    mask[0, 0, 0] = True
    save_dicom_seg(mask, volume, tmp_path / "mask.dcm", structure="left kidney")
    # pydicom: the segment and the series that it refers to
    seg = pydicom.dcmread(tmp_path / "mask.dcm")
    assert seg.Modality == "SEG"
    assert seg.SegmentSequence[0].SegmentLabel == "left kidney"
    assert seg.SegmentSequence[0].SegmentAlgorithmType == "SEMIAUTOMATIC"
    source = pydicom.dcmread(volume.metadata[DICOM_SERIES][0])
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == source.SeriesInstanceUID
    assert seg.FrameOfReferenceUID == source.FrameOfReferenceUID
    assert int(seg.pixel_array.sum()) == int(mask.sum())
    # SimpleITK: every voxel of the mask at the same place in mm
    image = SimpleITK.ReadImage(str(tmp_path / "mask.dcm"))
    voxels = SimpleITK.GetArrayFromImage(image)
    found = {
        tuple(np.round(image.TransformIndexToPhysicalPoint(tuple(map(int, index[::-1]))), 3))
        for index in np.argwhere(voxels)
    }
    expected = {
        tuple(np.round((volume.affine @ (*index[::-1], 1))[:3] * (-1, -1, 1), 3)) for index in np.argwhere(mask)
    }
    assert found == expected


def test_a_mask_of_a_series_is_saved_as_nifti_too(series, tmp_path):
    import nibabel as nib

    volume = load_dicom_series(series[0])
    save_mask(np.ones(volume.image.shape, dtype=bool), volume, tmp_path / "mask.nii.gz")
    assert nib.load(tmp_path / "mask.nii.gz").affine == pytest.approx(volume.affine, abs=1e-4)


def test_the_command_takes_a_series_and_writes_seg(tmp_path, monkeypatch):
    from synthfm_bench import cli

    array = write_series(tmp_path / "scan", *ORIENTATIONS["coronal"])
    monkeypatch.chdir(tmp_path)
    command = ["synthfm", "segment", "scan", "--segmenter", "geodesic", "--click", "1,2,3,+", "-o"]
    for output, status in (("mask.dcm", 0), ("mask.nii.gz", 0), ("mask.png", 2)):
        monkeypatch.setattr("sys.argv", [*command, output])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert (end.value.code or 0) == status
    # The voxel clicked, slice 1, row 2, column 3, by the positions that the scanner wrote.
    row, column = (np.array(axis) for axis in ORIENTATIONS["coronal"])
    (first,) = [one for one in map(pydicom.dcmread, (tmp_path / "scan").iterdir()) if one.InstanceNumber == 2]
    place = np.array(first.ImagePositionPatient, dtype=float) + column * 2 * 2.0 + row * 3 * 1.0
    image = SimpleITK.ReadImage("mask.dcm")
    assert image[image.TransformPhysicalPointToIndex(place.tolist())] > 0
    assert image.GetNumberOfPixels() == array.size


def test_what_is_no_series_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds 0 DICOM series"):
        load_dicom_series(tmp_path / "empty")
    write_series(tmp_path / "two", *ORIENTATIONS["axial"])
    for file in list((tmp_path / "two").iterdir()):
        file.rename(file.with_name(f"first-{file.name}"))
    write_series(tmp_path / "two", *ORIENTATIONS["axial"])
    with pytest.raises(InputError, match="holds 2 DICOM series"):
        load_dicom_series(tmp_path / "two")


def test_a_seg_that_cannot_be_written_is_refused(tmp_path):
    write_series(tmp_path / "scan", *ORIENTATIONS["axial"])
    volume = load_dicom_series(tmp_path / "scan")
    inside = np.ones(volume.image.shape, dtype=bool)
    for mask, of, name, message in (
        (~inside, volume, "mask.dcm", "empty"),
        (inside[:2], volume, "mask.dcm", "grid"),
        (inside, volume, "mask.nii", "ends in .dcm"),
        (inside, volume, "nowhere/mask.dcm", "cannot be written"),
        (inside, Volume(volume.image), "mask.dcm", "save NIfTI instead"),
    ):
        with pytest.raises(InputError, match=message):
            save_dicom_seg(mask, of, tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scan"]


def test_a_header_that_promises_too_much_memory_is_refused(tmp_path, monkeypatch):
    write_series(tmp_path, (1, 0, 0), (0, 1, 0))
    monkeypatch.setenv("SYNTHFM_MEMORY_LIMIT", "100")
    for path in tmp_path.iterdir():
        header = pydicom.dcmread(path)
        header.Rows = header.Columns = 65535
        header.save_as(path)
    with pytest.raises(
        MemoryLimitError, match=r"states \(65535, 65535, 1\) voxels .* of 5 such slices needs 160.0 GiB"
    ):
        load_dicom_series(tmp_path)
