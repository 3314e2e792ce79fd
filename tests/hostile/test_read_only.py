"""Every command that writes, with a folder that it may not write to: one clear line, and nothing is left.

The system's refusals are made here, because no permission of a folder stops an administrator, who may run the tests.
"""

import json
import os
import sys

import nibabel as nib
import numpy as np
import pytest
from episode_records import made_episode

from synthfm_bench import cli
from synthfm_bench.results.step_record import as_lines, results_hash

CLICK = ("--click", "1,8,8,+", "--segmenter", "geodesic")
OWN = ("--image", "scan.nii", "--label", "scan.nii", "--segmenter", "geodesic", "--clicker", "random")
SHAPE = ("-n", "1", "--shape", "1,32,32")
WRITES = {
    "a mask": (("segment", "scan.nii", *CLICK, "-o", "closed/mask.nii.gz"), 2),
    "a run": (("bench", "quick", *OWN, "--workers", "1", "--out", "closed/run"), 2),
    "a run in the folder itself": (("bench", "quick", *OWN, "--workers", "1", "--out", "closed"), 2),
    "volumes": (("generate", "closed/volumes", *SHAPE), 2),
    "volumes in the folder itself": (("generate", "closed", *SHAPE), 2),
    "a preview": (("generate", "--preview", "closed/sheet.png"), 2),
    "a training": (("train", "ablation-shape", "--out", "closed/training"), 2),
    "a training in the folder itself": (("train", "ablation-shape", "--out", "closed"), 2),
    "a report": (("report", "run", "--out", "closed/page"), 2),
    "a report in its run": (("report", "closed"), 1),
}


DRAWS_FIRST = "a preview"


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name == DRAWS_FIRST else name for name in WRITES]
)
def test_a_folder_that_cannot_be_written_to_is_named(name, tmp_path, monkeypatch, capfd):
    arguments, status = WRITES[name]
    label = np.zeros((16, 16, 4), dtype=np.int16)
    label[4:12, 4:12, 1:3] = 1
    nib.save(nib.Nifti1Image(label, np.eye(4)), tmp_path / "scan.nii")
    records = made_episode([0.5, 0.6], data_id="synthetic")
    data = {"kind": "synthetic", "name": "synthetic", "shape": [4, 32, 32], "cases": 1}
    suite = {"name": "quick", "segmenters": ["geodesic"], "clickers": ["random"], "clicks": 2, "data": [data]}
    about = {"run_id": "run", "status": "finished", "suite": suite, "results_hash": results_hash(records)}
    for run in ("run", "closed"):
        (tmp_path / run).mkdir()
        if run == "run" or name == "a report in its run":
            (tmp_path / run / "run.json").write_text(json.dumps(about))
            (tmp_path / run / "steps.jsonl").write_text(as_lines(records))
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    refuse_to_write_below(tmp_path / "closed", monkeypatch)
    monkeypatch.setattr(sys, "argv", ["synthfm", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    error = capfd.readouterr().err
    assert error.count("\n") == 1, error
    assert "closed" in error
    assert "Permission denied" in error
    assert "SYNTHFM_TRACEBACK" not in error
    assert end.value.code == status
    assert sorted(tmp_path.rglob("*")) == before


def refuse_to_write_below(closed, monkeypatch):
    """Make the system refuse new files and folders below a folder."""
    below = f"{closed.resolve()}{os.sep}"
    open_file, make_folder = os.open, os.mkdir

    def is_closed(path):
        return isinstance(path, str | os.PathLike) and os.path.abspath(path).startswith(below)

    def refusing_open(path, flags, *arguments, **named):
        if is_closed(path) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise PermissionError(13, "Permission denied", str(path))
        return open_file(path, flags, *arguments, **named)

    def refusing_mkdir(path, *arguments, **named):
        if is_closed(path):
            raise PermissionError(13, "Permission denied", str(path))
        return make_folder(path, *arguments, **named)

    monkeypatch.setattr(os, "open", refusing_open)
    monkeypatch.setattr(os, "mkdir", refusing_mkdir)
