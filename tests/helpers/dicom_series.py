"""Writes small DICOM series that count up their voxels."""

import datetime

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

SHAPE = (5, 8, 6)  # slices, rows, columns


def write_series(folder, row, column, spacing=(3.0, 2.0, 1.0)):
    """Write a CT series whose voxels count up, files in a shuffled order; return the array (slice, row, column)."""
    folder.mkdir(exist_ok=True)
    array = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    normal = np.cross(row, column)
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    for index in range(SHAPE[0]):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one = FileDataset(None, Dataset(), file_meta=meta, preamble=b"\0" * 128)
        one.SOPClassUID, one.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = study, series, frame
        one.PatientID, one.PatientName, one.PatientBirthDate, one.PatientSex = "p", "Test^Made", "", "O"
        one.StudyID, one.AccessionNumber, one.ReferringPhysicianName = "1", "1", ""
        one.StudyDate, one.StudyTime = datetime.date(2026, 1, 1), datetime.time(1)
        one.Modality, one.Manufacturer, one.SeriesNumber, one.InstanceNumber = "CT", "made", 1, index + 1
        one.ImagePositionPatient = [float(v) for v in np.array([10, -20, 30]) + normal * spacing[0] * index]
        one.ImageOrientationPatient = [float(v) for v in (*row, *column)]
        one.PixelSpacing, one.SliceThickness = [spacing[1], spacing[2]], spacing[0]
        one.Rows, one.Columns = SHAPE[1:]
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.BitsAllocated = one.BitsStored = 16
        one.HighBit, one.PixelRepresentation = 15, 1
        one.RescaleIntercept, one.RescaleSlope, one.RescaleType = -1000, 1, "HU"
        one.PixelData = array[index].tobytes()
        one.save_as(folder / f"{(index * 3) % SHAPE[0]}.dcm", enforce_file_format=True)
    return array
