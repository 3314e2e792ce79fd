"""Folders of DICOM files that make no volume: refused in one line that names a file, and nothing is left."""

import shutil
import sys
import warnings

import numpy as np
import pytest

pytest.importorskip("highdicom", reason="the extra data is not installed")
import pydicom
from dicom_series import SHAPE, write_series
from pydicom.uid import MPEG4HP41, JPEGLSLossless, generate_uid

from synthfm_bench import cli
from synthfm_env.errors import InputError
from synthfm_env.volumes.dicom_seg import load_dicom_series


def changed(name, **attributes):
    """Return a function that changes one file of a folder; None deletes an attribute."""

    def change(folder):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pydicom, for values that the standard forbids
            header = pydicom.dcmread(folder / name)
            for key, value in attributes.items():
                if value is None:
                    delattr(header, key)
                else:
                    setattr(header, key, value)
            header.save_as(folder / name)

    return change


def every(**attributes):
    return lambda folder: [changed(path.name, **attributes)(folder) for path in sorted(folder.iterdir())]


def with_missing_slice(folder):
    next(path for path in folder.iterdir() if pydicom.dcmread(path).InstanceNumber == 3).unlink()


def with_slice_twice(folder):
    shutil.copy(folder / "3.dcm", folder / "copy.dcm")
    changed("copy.dcm", SOPInstanceUID=generate_uid())(folder)


def with_other_orientation(folder):
    changed("3.dcm", ImageOrientationPatient=[0, 1, 0, 0, 0, -1])(folder)


def with_frames(folder):
    frames = np.zeros((3, *SHAPE[1:]), np.int16).tobytes()
    changed("3.dcm", NumberOfFrames=3, PixelData=frames)(folder)


def with_syntax(folder):
    header = pydicom.dcmread(folder / "3.dcm")
    header.file_meta.TransferSyntaxUID = JPEGLSLossless
    header.PixelData = pydicom.encaps.encapsulate([b"no JPEG at all"])
    header.save_as(folder / "3.dcm")


def with_film(folder):
    header = pydicom.dcmread(folder / "3.dcm")
    header.file_meta.TransferSyntaxUID = MPEG4HP41
    header.PixelData = pydicom.encaps.encapsulate([b"a film"])
    header.save_as(folder / "3.dcm")


def with_cut_file(folder):
    content = (folder / "3.dcm").read_bytes()
    (folder / "3.dcm").write_bytes(content[:-40])


def with_cut_header(folder):
    (folder / "3.dcm").write_bytes((folder / "3.dcm").read_bytes()[:200])


def with_text(folder):
    (folder / "3.dcm").write_bytes(bytes(128) + b"DICM" + b"\xff" * 300)


BAD = {
    "two series": (changed("3.dcm", SeriesInstanceUID="1.2.3"), "holds 2 DICOM series"),
    "slices of two sizes": (
        changed("3.dcm", Rows=4, PixelData=bytes(2 * 4 * SHAPE[2])),
        r"0.dcm and 3.dcm differ in rows and columns \(8, 6\) and \(4, 6\)",
    ),
    "slices of two spacings": (changed("3.dcm", PixelSpacing=[2, 1.5]), "0.dcm and 3.dcm differ in spacing"),
    "a scout of another orientation": (with_other_orientation, "0.dcm and 3.dcm differ in orientation"),
    "frames beside slices": (with_frames, "3.dcm: holds 3 frames, expected one slice"),
    "a slice that is missing": (with_missing_slice, "are 6 mm apart, the other slices 3 mm"),
    "a slice twice": (with_slice_twice, "(3|copy).dcm and (3|copy).dcm have the same position"),
    "slices without positions": (every(ImagePositionPatient=None), "0.dcm: ImagePositionPatient is missing"),
    "slices without orientation": (every(ImageOrientationPatient=None), "0.dcm: ImageOrientationPatient is missing"),
    "an orientation of zeros": (every(ImageOrientationPatient=[0] * 6), "0.dcm: ImageOrientationPatient is 0.0, 0.0"),
    "a position of one number": (changed("3.dcm", ImagePositionPatient=5), "3.dcm: ImagePositionPatient is 5.0, "),
    "spacing of zero": (every(PixelSpacing=[0, 0]), "0.dcm: PixelSpacing is 0.0, 0.0, expected two lengths in mm"),
    "spacing of zero in one axis": (changed("3.dcm", PixelSpacing=[2, 0]), "3.dcm: PixelSpacing is 2.0, 0.0"),
    "negative spacing": (changed("3.dcm", PixelSpacing=[-2, 1]), "3.dcm: PixelSpacing is -2.0, 1.0"),
    "no spacing": (every(PixelSpacing=None), "0.dcm: PixelSpacing is missing, expected two lengths in mm above 0"),
    "no pixels": (changed("3.dcm", PixelData=None), "3.dcm: "),
    "no rows": (changed("3.dcm", Rows=None), "3.dcm: "),
    "pixels in a compression that is none": (with_syntax, "3.dcm: cannot be read as DICOM"),
    "pixels of a film": (with_film, "3.dcm: cannot be read as DICOM"),
    "a file cut in its pixels": (with_cut_file, "3.dcm: cannot be read as DICOM"),
    "a file cut in its header": (with_cut_header, "scan"),
    "a file of noise behind the mark": (with_text, "scan"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_folder_that_makes_no_volume_is_refused_in_one_line(name, tmp_path, monkeypatch, capfd):
    change, message = BAD[name]
    write_series(tmp_path / "scan", (1, 0, 0), (0, 1, 0))
    change(tmp_path / "scan")
    monkeypatch.chdir(tmp_path)
    arguments = ["segment", "scan", "--click", "1,2,3,+", "-o", "mask.nii", "--segmenter", "geodesic"]
    monkeypatch.setattr(sys, "argv", ["synthfm", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    error = capfd.readouterr().err
    assert error.count("\n") == 1, error
    assert error.startswith("synthfm: ")
    assert "0x" not in error  # no address in memory
    assert end.value.code == 2
    with pytest.raises(InputError, match=message):
        load_dicom_series("scan")
    assert [path.name for path in tmp_path.iterdir()] == ["scan"]


def test_a_slice_that_cannot_be_opened_is_named(tmp_path, monkeypatch):
    write_series(tmp_path, (1, 0, 0), (0, 1, 0))
    is_open = open

    def refusing(path, *arguments, **named):
        if str(path).endswith("3.dcm"):
            raise PermissionError(13, "Permission denied")
        return is_open(path, *arguments, **named)

    monkeypatch.setattr("builtins.open", refusing)
    with pytest.raises(InputError, match=r"3\.dcm: cannot be read \(Permission denied\)"):
        load_dicom_series(tmp_path)


def test_small_differences_of_positions_are_rounding(tmp_path):
    write_series(tmp_path, (1, 0, 0), (0, 1, 0))
    for path in tmp_path.iterdir():
        place = [float(mm) for mm in pydicom.dcmread(path).ImagePositionPatient]
        changed(path.name, ImagePositionPatient=[place[0], place[1], place[2] + 0.04 * (place[2] % 2)])(tmp_path)
    assert load_dicom_series(tmp_path).image.shape == SHAPE


@pytest.mark.parametrize("attribute", ["StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "SOPInstanceUID"])
def test_a_series_that_lacks_what_dicom_seg_copies_is_refused_as_such(attribute, tmp_path, monkeypatch, capfd):
    write_series(tmp_path / "scan", (1, 0, 0), (0, 1, 0))
    every(**{attribute: None})(tmp_path / "scan")
    monkeypatch.chdir(tmp_path)
    arguments = ["segment", "scan", "--click", "1,2,3,+", "-o", "mask.dcm", "--segmenter", "geodesic"]
    monkeypatch.setattr(sys, "argv", ["synthfm", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    error = capfd.readouterr().err
    assert error.count("\n") == 1, error
    assert end.value.code == 2
    assert "mask.dcm: the series lacks what DICOM SEG copies" in error
    assert attribute in error.replace(" ", "")
