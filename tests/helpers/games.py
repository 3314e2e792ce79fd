"""Provides small volumes, suites and runs for the tests of ``synthfm play``."""

from pathlib import Path

import nibabel as nib
import numpy as np

from synthfm_bench.play.game import SuiteGame
from synthfm_bench.play.person_run import PersonRun, suite_of_person
from synthfm_bench.suite import Suite, parse_suite

SHAPE = (10, 24, 32)  # z, y, x


def write_scan(folder: Path) -> tuple[Path, Path]:
    """Write an image of two bright structures, 1 and 2, and its label map, stored LPS as scanners do."""
    label = np.zeros(SHAPE, dtype=np.int16)
    label[2:8, 5:15, 6:16] = 1
    label[3:7, 14:21, 20:29] = 2
    rng = np.random.default_rng(0)
    image = (np.choose(label, (0, 300, 500)) + rng.normal(0, 10, SHAPE)).round().astype(np.int16)
    affine = np.diag((-1.5, -1.0, 3.0, 1.0))
    paths = folder / "scan.nii.gz", folder / "organs.nii.gz"
    for array, path in zip((image, label), paths, strict=True):
        nib.save(nib.Nifti1Image(array.T[::-1, ::-1], affine), path)
    return paths


def made_suite(folder: Path, synthetic: bool = False) -> Suite:
    """Return a suite of one scan with two structures, and of two synthetic volumes if asked for."""
    image, label = write_scan(folder)
    data: list[dict] = [{"kind": "files", "name": "scan", "image": str(image), "label": str(label)}]
    if synthetic:
        made = {"kind": "synthetic", "name": "synthetic", "shape": [8, 48, 48], "cases": 2}
        data.append(made)
    fields = {"name": "small", "segmenters": ["geodesic"], "clickers": ["ritm-3d-v1"], "clicks": 4, "data": data}
    return parse_suite(fields, "of the test")


def made_game(folder: Path, alias: str = "anna", *, practice: bool = False, synthetic: bool = False) -> SuiteGame:
    """Return a game of ``made_suite`` whose run is in ``folder / alias``."""
    suite = made_suite(folder, synthetic)
    person = suite_of_person(suite, alias, segmenter="geodesic", practice=practice)
    return SuiteGame(PersonRun.open(person, folder / alias))
