import errno
import json

import numpy as np
import pytest

from synthfm_env.errors import InputError
from synthfm_env.synthesis import SynthFM3D, export
from synthfm_env.synthesis.export import export_volumes
from synthfm_env.volumes import load_volume

SHAPE = (4, 48, 48)


def files(out):
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


def rows(out):
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]


def test_files_hold_the_volumes_of_their_seeds(tmp_path):
    out = tmp_path / "data"
    done = export_volumes(out, 3, SHAPE, "clear", seed=5)
    assert (done.written, done.kept) == (3, 0)
    assert [row["seed"] for row in rows(out)] == [5, 6, 7]
    for row in rows(out):
        volume = SynthFM3D(SHAPE, "clear").sample(row["seed"])
        case = row["case_id"]
        back = load_volume(out / f"imagesTr/{case}_0000.nii.gz", out / f"labelsTr/{case}.nii.gz")
        np.testing.assert_array_equal(back.label, volume.label)
        np.testing.assert_array_equal(back.image, volume.image)
        np.testing.assert_allclose(back.spacing, volume.spacing, rtol=1e-5)
        assert row["modality"] == volume.modality
        assert row["structures"] == {str(k): n for k, n in volume.structures.items()}
    data = json.loads((out / "dataset.json").read_text(encoding="utf-8"))
    assert data["numTraining"] == 3
    assert data["file_ending"] == ".nii.gz"
    assert data["labels"] == {"background": 0} | {f"structure {i}": i for i in range(1, 11)}


def test_a_stopped_call_goes_on_where_it_was(tmp_path):
    out, whole = tmp_path / "part", tmp_path / "whole"
    export_volumes(whole, 4, SHAPE, "clear")
    export_volumes(out, 2, SHAPE, "clear")
    with (out / "manifest.jsonl").open("a") as manifest:
        manifest.write('{"seed": 2, "case')  # the line that was being written
    (out / "labelsTr/synthfm3d-clear-0.nii.gz").unlink()
    done = export_volumes(out, 4, SHAPE, "clear")
    assert (done.written, done.kept) == (3, 1)
    assert sorted(row["seed"] for row in rows(out)) == [0, 1, 2, 3]
    left, right = files(out), files(whole)
    del left["manifest.jsonl"], right["manifest.jsonl"]
    assert left == right
    assert export_volumes(out, 4, SHAPE, "clear").written == 0


@pytest.mark.slow
def test_files_do_not_depend_on_the_number_of_workers(tmp_path):
    export_volumes(tmp_path / "one", 5, SHAPE, "any")
    export_volumes(tmp_path / "two", 5, SHAPE, "any", workers=2)
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_a_full_disk_ends_clearly_and_keeps_what_is_whole(tmp_path, monkeypatch):
    out = tmp_path / "data"
    save, count = export.save_volume, []

    def full(volume, image, label):
        count.append(1)
        if len(count) == 3:
            raise InputError(f"{image}: cannot be written ({errno.errorcode[errno.ENOSPC]})")
        save(volume, image, label)

    monkeypatch.setattr(export, "save_volume", full)
    with pytest.raises(InputError, match=r"stopped after 2 of 4 volumes.*ENOSPC.*same command again"):
        export_volumes(out, 4, SHAPE, "clear")
    assert len(rows(out)) == 2
    monkeypatch.undo()
    assert export_volumes(out, 4, SHAPE, "clear").written == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"count": 0}, "count=0"),
        ({"workers": 0}, "workers=0"),
        ({"seed": -1}, "seed=-1"),
        ({"shape": (4, 4, 4)}, "H, W >= 16"),
        ({"recipe": "clearr"}, "did you mean clear"),
        ({"out": None}, "name one"),
    ],
)
def test_bad_values_are_found_before_anything_is_written(tmp_path, change, words):
    call = {"out": tmp_path / "data", "count": 1, "shape": SHAPE, "recipe": "clear", **change}
    with pytest.raises(InputError, match=words):
        export_volumes(**call)
    assert not list(tmp_path.iterdir())


def test_other_settings_and_other_files_are_not_mixed(tmp_path):
    out = tmp_path / "data"
    export_volumes(out, 1, SHAPE, "clear")
    with pytest.raises(InputError, match=r"first seed 0, not 3"):
        export_volumes(out, 1, SHAPE, "clear", seed=3)
    with pytest.raises(InputError, match=r"recipe name 'clear', not 'ct'"):
        export_volumes(out, 1, SHAPE, "ct")
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(InputError, match="holds other files"):
        export_volumes(tmp_path, 1, SHAPE, "clear")


def test_a_preview_needs_no_folder(tmp_path):
    pytest.importorskip("matplotlib", reason="the preview is drawn with matplotlib")
    sheet = tmp_path / "sheet.png"
    done = export_volumes(None, 0, (1, 48, 48), "clear", preview=sheet)
    assert done.preview == sheet
    assert sheet.stat().st_size > 1000


def test_a_preview_that_cannot_be_drawn_is_refused_before_any_volume(tmp_path):
    pytest.importorskip("matplotlib", reason="the preview is drawn with matplotlib")
    for name, words in (("sheet.gif", ".png"), ("nowhere/sheet.png", "there is no folder")):
        with pytest.raises(InputError, match=words):
            export_volumes(tmp_path / "data", 1, SHAPE, "clear", preview=tmp_path / name)
        assert not list(tmp_path.iterdir())
