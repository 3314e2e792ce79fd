"""Makes small copies of data sets in their layouts on disk: one bright box in the dark for each structure."""

import csv
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from PIL import Image

LPS = np.diag([-0.8, -0.8, 2.5, 1.0])
SHAPE = (5, 24, 20)  # z, y, x


def boxes(count: int, shape: tuple[int, int, int] = SHAPE, shift: int = 0) -> np.ndarray:
    """Return a label of so many boxes, each in rows of its own; z and y tell them apart from their mirrors."""
    label = np.zeros(shape, dtype=np.int16)
    rows = shape[1] // count
    for key in range(1, count + 1):
        top = (key - 1) * rows
        label[: max(1, shape[0] - key), top + 1 : top + rows - 1, 3 + shift : 9 + shift] = key
    return label


def image_of(label: np.ndarray) -> np.ndarray:
    return (label * 10 + 5).astype(np.int16)


def nifti(path: Path, array: np.ndarray, affine: np.ndarray = LPS) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array.T, affine), path)


def picture(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array.astype(np.uint8)).save(path)


def itk(path: Path, array: np.ndarray, spacing: tuple[float, ...], vector: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array, isVector=vector)
    image.SetSpacing(spacing)
    sitk.WriteImage(image, str(path))


def dicom(path: Path, pixels: np.ndarray, place: tuple[float, float, float], intercept: int = 0) -> None:
    """Write one slice with its place in the patient, and a series of its own, as CHAOS has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(pixels.astype(np.int16))  # the writer takes slope and intercept off
    image.SetSpacing((0.8, 0.8))
    for key, value in {
        "0008|0060": "CT",
        "0018|0050": "2.5",
        "0020|0032": "\\".join(map(str, place)),
        "0020|0037": "1\\0\\0\\0\\1\\0",
        "0028|1052": str(intercept),
        "0028|1053": "1",
    }.items():
        image.SetMetaData(key, value)
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.SetFileName(str(path))
    writer.Execute(image)


def folder(root: Path) -> None:
    for case in ("a", "b"):
        nifti(root / f"imagesTr/{case}_0000.nii.gz", image_of(boxes(2)))
        nifti(root / f"imagesTr/{case}_0001.nii.gz", image_of(boxes(2)))
        nifti(root / f"labelsTr/{case}.nii.gz", boxes(2))
    nifti(root / "imagesTr/unlabelled_0000.nii.gz", image_of(boxes(2)))
    text = '{"channel_names": {"0": "CT", "1": "PET"}, "labels": {"background": 0, "liver": 1, "spleen": 2}}'
    (root / "dataset.json").write_text(text)
    nifti(root / "c/image.nii.gz", image_of(boxes(1)))
    nifti(root / "c/label.nii.gz", boxes(1))
    (root / "c/meta.json").write_text('{"modality": "ultrasound", "labels": {"1": "prostate"}}')
    nifti(root / "images/d.nii", image_of(boxes(1)))
    nifti(root / "labels/d.nii.gz", boxes(1))


def msd(root: Path) -> None:
    nifti(root / "imagesTr/spleen_2.nii.gz", image_of(boxes(1)))
    nifti(root / "labelsTr/spleen_2.nii.gz", boxes(1))
    (root / "imagesTr/._spleen_2.nii.gz").write_bytes(b"macOS")
    nifti(root / "imagesTs/spleen_3.nii.gz", image_of(boxes(1)))
    (root / "dataset.json").write_text('{"modality": {"0": "CT"}, "labels": {"0": "background", "1": "spleen"}}')


def amos(root: Path) -> None:
    nifti(root / "imagesTr/amos_0004.nii.gz", image_of(boxes(3)))
    nifti(root / "labelsTr/amos_0004.nii.gz", boxes(3))
    nifti(root / "imagesVa/amos_0507.nii.gz", image_of(boxes(3)))
    nifti(root / "labelsVa/amos_0507.nii.gz", boxes(3))


GREYS = np.array([0, 63, 126, 189, 252])


def chaos(root: Path) -> None:
    """CT files count from head to foot, MR files from foot to head; names of CT masks differ from the slices'."""
    label = boxes(1)
    for number, (z, truth) in enumerate(reversed(list(enumerate(label)))):
        ct = root / "Train_Sets/CT/5"
        dicom(ct / f"DICOM_anon/i{number:04d},0000b.dcm", image_of(truth) - 1000, (-8, -9, 2.5 * z), intercept=-1024)
        picture(ct / f"Ground/liver_GT_{number:03d}.png", truth * 255)
    label = boxes(4)
    for z, truth in enumerate(label):
        mr = root / "Train_Sets/MR/1"
        dicom(mr / f"T2SPIR/DICOM_anon/IMG-0002-{z:05d}.dcm", image_of(truth), (0, 0, 7.7 * z))
        picture(mr / f"T2SPIR/Ground/IMG-0002-{z:05d}.png", GREYS[truth])
        for phase, odd in (("InPhase", 0), ("OutPhase", 1)):
            name = f"IMG-0004-{2 * z + odd:05d}"
            dicom(mr / f"T1DUAL/DICOM_anon/{phase}/{name}.dcm", image_of(truth), (0, 0, 5.5 * z))
        picture(mr / f"T1DUAL/Ground/IMG-0004-{2 * z:05d}.png", GREYS[truth])


def totalsegmentator(root: Path) -> None:
    label = boxes(2)
    nifti(root / "s0011/ct.nii.gz", image_of(label) - 1000)
    nifti(root / "s0011/segmentations/liver.nii.gz", (label == 1).astype(np.uint8))
    nifti(root / "s0011/segmentations/spleen.nii.gz", (label == 2).astype(np.uint8))
    nifti(root / "s0011/segmentations/brain.nii.gz", np.zeros_like(label, dtype=np.uint8))
    (root / "meta.csv").write_text("image_id\n")


def camus(root: Path) -> None:
    frame, clip = boxes(3, (1, 24, 20)), boxes(3, (6, 24, 20))
    place = np.diag([-0.15, -0.15, 1.0, 1.0])
    for view in ("2CH", "4CH"):
        for name, label in (("ED", frame), ("ES", frame), ("half_sequence", clip)):
            path = root / f"database_nifti/patient0001/patient0001_{view}_{name}.nii.gz"
            nifti(path, image_of(label), place)
            nifti(path.with_name(path.name.replace(".nii", "_gt.nii")), label, place)


def camus_mhd(root: Path) -> None:
    label = boxes(3, (1, 24, 20))
    for name, array in (("ED", image_of(label)), ("ED_gt", label), ("sequence", image_of(boxes(3, (6, 24, 20))))):
        itk(root / f"training/patient0002/patient0002_2CH_{name}.mhd", array, (0.308, 0.154, 1.54))


def ring(
    shape: tuple[int, int], middle: tuple[float, float], radii: tuple[float, float], turn: float = 0.0
) -> np.ndarray:
    """Return a mask of an ellipse and its outline."""
    y, x = np.indices(shape)
    up, right = y - middle[0], x - middle[1]
    along, across = np.cos(turn) * up + np.sin(turn) * right, np.cos(turn) * right - np.sin(turn) * up
    distance = np.hypot(along / radii[0], across / radii[1])
    return np.stack([distance <= 1, np.abs(distance - 1) < 0.06])


def hc18(root: Path) -> None:
    rows = []
    for name, middle in (("000_HC", (30, 40)), ("010_HC", (28, 41)), ("010_2HC", (30, 15))):
        inside, outline = ring((60, 80), middle, (20, 25))
        picture(root / f"training_set/{name}.png", 40 + 100 * inside)
        picture(root / f"training_set/{name}_Annotation.png", outline * 255)
        rows.append((f"{name}.png", 0.0691, 44.3))
    picture(root / "test_set/001_HC.png", np.zeros((60, 80)))
    with (root / "training_set_pixel_size_and_HC.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("filename", "pixel size(mm)", "head circumference (mm)"), *rows])


def fh_ps_aop(root: Path) -> None:
    home = root / "Pubic Symphysis-Fetal Head Segmentation and Angle of Progression"
    label = boxes(2, (1, 24, 24))[0].astype(np.uint8)
    grey = image_of(label).astype(np.uint8)
    itk(home / "image_mha/00001.mha", np.stack([grey] * 3), (1, 1, 1))
    itk(home / "image_mha/00002.mha", np.stack([grey] * 3, axis=-1), (1, 1), vector=True)
    for name in ("00001", "00002"):
        itk(home / f"label_mha/{name}.mha", label, (1, 1))


def alfi(root: Path) -> None:
    greys = np.zeros((90, 90), dtype=np.uint8)
    greys[5:25, 5:25], greys[5:25, 40:60], greys[40:60, 5:25], greys[80:83, 80:83] = 128, 128, 255, 128
    for sequence in ("MI01", "MI06"):
        for frame in (1, 2):
            home = root / "Data&Annotations" / sequence
            picture(home / f"Images/I_{sequence}_{frame:04d}.png", greys // 2 + 20)
            picture(home / f"Masks/M_{sequence}_{frame:04d}.png", greys)
    picture(root / "Data&Annotations/CD01/Images/I_CD01_0001.png", greys)


def amos_cases(root: Path, numbers: tuple[str, ...]) -> None:
    """Write cases with all fifteen organs."""
    label = boxes(15, (16, 60, 20))
    for number in numbers:
        nifti(root / f"imagesTr/amos_{number}.nii.gz", image_of(label))
        nifti(root / f"labelsTr/amos_{number}.nii.gz", label)


def totalsegmentator_cases(root: Path, image: str, cases: tuple[str, ...]) -> None:
    """Write cases with the eight organs of SynthFM's tables."""
    organs = ("aorta", "gallbladder", "kidney_left", "kidney_right", "liver", "pancreas", "prostate", "spleen")
    label = boxes(8, (9, 40, 20))
    for case in cases:
        nifti(root / case / image, image_of(label) - 1000)
        for key, organ in enumerate(organs, start=1):
            nifti(root / case / f"segmentations/{organ}.nii.gz", (label == key).astype(np.uint8))


def msd_cases(root: Path, structure: str, count: int, depth: int = SHAPE[0]) -> None:
    """Write one task with so many cases."""
    for number in range(count):
        label = boxes(1, (depth, *SHAPE[1:]), shift=number % 3)
        nifti(root / f"imagesTr/case_{number:03d}.nii.gz", image_of(label))
        nifti(root / f"labelsTr/case_{number:03d}.nii.gz", label)
    about = '{"modality": {"0": "CT"}, "labels": {"0": "background", "1": "%s"}}'
    (root / "dataset.json").write_text(about % structure)


def oaizib_cases(root: Path, count: int) -> None:
    """Write test cases with all five structures of the knee."""
    label = boxes(5, (9, 40, 20))
    for number in range(count):
        nifti(root / f"imagesTs/oaizib_{number:03d}_0000.nii.gz", image_of(label))
        nifti(root / f"labelsTs/oaizib_{number:03d}.nii.gz", label)
