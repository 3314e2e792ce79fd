"""Hostile files, names and options for every command: one clear line and the right exit status, and nothing is left.

``BAD`` holds commands that a user gets wrong (exit status 2). They run in a folder of traps, see ``traps``.
"""

import gzip
import json
import os
import struct
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from episode_records import made_episode

from synthfm_bench import cli
from synthfm_bench.results.step_record import as_lines, results_hash

LONG = "a" * 300
CLICK = ("--click", "1,8,8,+")
SEGMENT = ("segment", "scan.nii", *CLICK, "-o", "mask.nii", "--segmenter", "geodesic")
OWN = ("--image", "scan.nii", "--label", "truth.nii", "--segmenter", "geodesic", "--clicker", "random")
BENCH = ("bench", "quick", *OWN, "--workers", "1", "--out", "out")


def segment(image: str) -> tuple[str, ...]:
    return ("segment", image, *CLICK, "-o", "mask.nii", "--segmenter", "geodesic")


def segmenter(name: str) -> tuple[str, ...]:
    return ("segment", "scan.nii", *CLICK, "-o", "mask.nii", "--segmenter", name)


BAD = {
    # Images.
    "a pipe as image": segment("pipe.nii"),
    "a link to itself as image": segment("loop.nii"),
    "a link to an endless device as image": segment("endless.nii"),
    "a folder with the name of an image": segment("folder.nii"),
    "an image name longer than the system takes": segment(f"{LONG}.nii"),
    "a null character in an image's name": segment("a\0b.nii"),
    "a name that turns the text around": segment("\u202egpj.nii"),
    "a name that is no UTF-8": segment(os.fsdecode(b"\xff\xfe.nii")),
    "an empty name": segment(""),
    "an image below a file": segment("scan.nii/x.nii"),
    "two volumes in four axes": segment("four.nii"),
    "vectors in five axes": segment("five.nii"),
    "a singular sform": segment("singular.nii"),
    "an sform that is not finite": segment("endless-affine.nii"),
    "a compressed file without its ending": segment("packed.nii"),
    "a plain file with the ending of a compressed one": segment("plain.nii.gz"),
    "a stream cut between two members": segment("members.nii.gz"),
    "a header without its image": segment("alone.hdr"),
    "text": segment("text.nii"),
    # Clicks and outputs.
    "a click with an endless number": ("segment", "scan.nii", "--click", "9" * 5000 + ",1,1,+", "-o", "mask.nii"),
    "a click of words": ("segment", "scan.nii", "--click", "nan,inf,1,+", "-o", "mask.nii"),
    "a click of full-width digits and sign": ("segment", "scan.nii", "--click", "１,２,３,＋", "-o", "mask.nii"),
    "an output in a folder that is a file": ("segment", "scan.nii", *CLICK, "-o", "text.nii/mask.nii"),
    "an output below a link to itself": ("segment", "scan.nii", *CLICK, "-o", "loop.nii/mask.nii"),
    "an output that is the image by another name": ("segment", "scan.nii", *CLICK, "-o", "link.nii"),
    "an output that is a folder": (*SEGMENT[:5], "folder.nii", *SEGMENT[6:]),
    "an output name longer than the system takes": (*SEGMENT[:5], f"{LONG}.nii", *SEGMENT[6:]),
    "a null character in an output's name": (*SEGMENT[:5], "a\0b.nii", *SEGMENT[6:]),
    # Segmenters and clickers.
    "an empty segmenter": segmenter(""),
    "a pipe as weights": segmenter("pipe.safetensors"),
    "a folder as weights": segmenter("folder.pt"),
    "a null character in a segmenter": segmenter("a\0b.safetensors"),
    "weights with a long name": segmenter(f"{LONG}.pt"),
    "a bridge to nothing": segmenter("bridge:./no-such-program"),
    "a bridge with an open quote": segmenter("bridge:'python"),
    "a segmenter of a package": segmenter("json:loads"),
    "a segmenter with a syntax error": segmenter("broken_module:Thing"),
    "a segmenter whose module exits": segmenter("exiting_module:Thing"),
    "a clicker with a path": (*BENCH, "--clicker", "../evil"),
    "a clicker that is a person with a path": (*BENCH, "--clicker", "human:../../evil"),
    # Bench.
    "a pipe as label": ("bench", "quick", "--image", "scan.nii", "--label", "pipe.nii", "--out", "out"),
    "a structure that is no number": (*BENCH, "--structure", "1.5"),
    "an empty structure": (*BENCH, "--structure", ""),
    "a giant structure": (*BENCH, "--structure", str(10**30)),
    "a negative seed": (*BENCH, "--seed", "-1"),
    "a time limit that is no number": (*BENCH, "--time-limit", "nan"),
    "a giant memory limit": (*BENCH, "--memory-limit", str(10**30)),
    "an unknown executor": (*BENCH, "--executor", "slurm\0"),
    "a run that is a file": (*BENCH[:-1], "text.nii"),
    "a run below a file": (*BENCH[:-1], "text.nii/run"),
    "a run that is a link to itself": (*BENCH[:-1], "loop.nii"),
    "a run with a long name": (*BENCH[:-1], LONG),
    "a null character in a run's name": (*BENCH[:-1], "a\0b"),
    "a run to resume that is a file": ("bench", "quick", "--resume", "--out", "text.nii"),
    "a run to resume with a long name": ("bench", "quick", "--resume", "--out", LONG),
    "a suite of dates": ("bench", "dates.toml", "--out", "out"),
    "a suite with a key twice": ("bench", "twice.toml", "--out", "out"),
    "a suite with a giant number": ("bench", "giant.toml", "--out", "out"),
    "a suite that is a pipe": ("bench", "pipe.toml", "--out", "out"),
    "a suite that is a folder": ("bench", "folder.toml", "--out", "out"),
    "a suite that is a link to itself": ("bench", "loop.toml", "--out", "out"),
    "a suite that never ends": ("bench", "endless.toml", "--out", "out"),
    "a suite with a null character": ("bench", "a\0b.toml", "--out", "out"),
    "a suite with a long name": ("bench", f"{LONG}.toml", "--out", "out"),
    # Reports and replays.
    "a report of a file": ("report", "text.nii"),
    "a report of nothing": ("report", "nowhere"),
    "a report of a null character": ("report", "a\0b"),
    "a report of a long name": ("report", LONG),
    "a report of a pipe": ("report", "pipe-run"),
    "a report of records that are a pipe": ("report", "pipe-steps"),
    "a report of records that never end": ("report", "endless-steps"),
    "a report of numbers that are none": ("report", "nan-run"),
    "a report of a giant number": ("report", "giant-run"),
    "a report into a file": ("report", "run", "--out", "text.nii"),
    "a report into a link to itself": ("report", "run", "--out", "loop.nii"),
    "results for a name that is none": ("report", "run", "--eval-results", "\u202e/../x"),
    "a replay of a file": ("verify", "text.nii"),
    "a replay of a pipe": ("verify", "pipe-run"),
    "a replay of no episodes": ("verify", "run", "--episodes", "0"),
    # Volumes and training.
    "a shape of zeros": ("generate", "volumes", "--shape", "0,0,0"),
    "a shape of full-width digits": ("generate", "volumes", "--shape", "１,１６,１６０００００"),
    "a shape with an endless number": ("generate", "volumes", "--shape", "1,16," + "9" * 5000),
    "a giant count": ("generate", "volumes", "-n", str(10**30), "--shape", "1,32,32"),
    "volumes into a file": ("generate", "text.nii", "-n", "1", "--shape", "1,32,32"),
    "volumes into a link to itself": ("generate", "loop.nii", "-n", "1", "--shape", "1,32,32"),
    "volumes into a long name": ("generate", LONG, "-n", "1", "--shape", "1,32,32"),
    "volumes into a null character": ("generate", "a\0b", "-n", "1", "--shape", "1,32,32"),
    "a recipe that is a pipe": ("generate", "volumes", "--recipe", "pipe.toml"),
    "a recipe of dates": ("generate", "volumes", "--recipe", "dates.toml"),
    "a preview in a folder that is a file": ("generate", "--preview", "text.nii/sheet.png"),
    "a preview of another kind": ("generate", "--preview", "sheet.exe"),
    "a training of a pipe": ("train", "pipe.toml", "--out", "out"),
    "a training of an endless number": ("train", "ablation-shape", "--set", "seed=" + "9" * 5000, "--out", "out"),
    "a training of dates": ("train", "dates.toml", "--out", "out"),
    "a training into a file": ("train", "ablation-shape", "--out", "text.nii"),
    "a training into a link to itself": ("train", "ablation-shape", "--out", "loop.nii"),
    "a training into a long name": ("train", "ablation-shape", "--out", LONG),
    "a training into a null character": ("train", "ablation-shape", "--out", "a\0b"),
    "a change without a value": ("train", "ablation-shape", "--set", "seed", "--out", "out"),
    "a change without a key": ("train", "ablation-shape", "--set", "=1", "--out", "out"),
    "a change of what is no table": ("train", "ablation-shape", "--set", "seed.a.b=1", "--out", "out"),
    "a change to a date": ("train", "ablation-shape", "--set", "seed=2026-11-30", "--out", "out"),
    "a change to an open string": ("train", "ablation-shape", "--set", 'name="', "--out", "out"),
    "a training on no device": ("train", "ablation-shape", "--device", "tpu", "--out", "out"),
    "a training to resume that is none": ("train", "ablation-shape", "--resume", "--out", "nowhere"),
    # Servers, data sets, others.
    "a server without a token": ("serve", "--host", "0.0.0.0", "--port", "0"),
    "a server on a host that is none": ("serve", "--host", "no such host", "--token", "x", "--port", "0"),
    "a server on a null character": ("serve", "--host", "a\0b", "--token", "x" * 40, "--port", "0"),
    "a server of nothing": ("serve", "--segmenter", "nothing", "--port", "0"),
    "a token of several lines": ("serve", "--host", "0.0.0.0", "--token", "a\nb", "--port", "0"),
    "a game on a pipe": ("play", "pipe.nii", "--port", "0"),
    "a game on a null character": ("play", "a\0b", "--port", "0"),
    "a game on a link to itself": ("play", "loop.nii", "--port", "0"),
    "a game with a label of nothing": ("play", "human-v1", "--label", "truth.nii", "--port", "0"),
    "a player with a path": ("play", "quick", "--alias", "../x", "--port", "0"),
    "a player without a name": ("play", "quick", "--alias", "", "--port", "0"),
    "a player with a long name": ("play", "quick", "--alias", LONG, "--port", "0"),
    "a player whose name turns the text around": ("play", "quick", "--alias", "\u202ex", "--port", "0"),
    "a list of nothing": ("list", "a\0b"),
    "a list of an empty name": ("list", ""),
    "a data set that is a file": ("datasets", "check", "text.nii", "--layout", "folder"),
    "a data set that is a link to itself": ("datasets", "check", "loop.nii", "--layout", "folder"),
    "a data set with a null character": ("datasets", "check", "a\0b", "--layout", "folder"),
    "a data set in no layout": ("datasets", "check", ".", "--layout", "a\0b"),
    "a data set with keys twice and no images": ("datasets", "check", "odd-set", "--layout", "folder"),
    "a data set whose labels are a number": ("datasets", "check", "numbered-set", "--layout", "folder"),
    "a challenge of nothing": ("challenge", "nothing", "-o", "x.zip", "--seed", "1", "--image", "i"),
    "a challenge in a folder that is a file": (
        *("challenge", "synthetic-3d", "-o", "text.nii/x.zip", "--seed", "1", "--image", "i"),
    ),
    "recordings of a bad name": ("record", "quick", "--minari", "../x"),
    "recordings of an empty name": ("record", "quick", "--minari", ""),
    "recordings of a null character": ("record", "quick", "--minari", "a\0b"),
    "no such command": ("\u202e",),
    "no such option": ("bench", "quick", "--\u202e"),
}


@pytest.fixture(scope="module")
def traps(tmp_path_factory):
    """A folder with a volume, its label and a run, and with pipes, links to themselves and broken files beside them."""
    home = tmp_path_factory.mktemp("traps")
    label = np.zeros((16, 16, 4), dtype=np.int16)
    label[4:12, 4:12, 1:3] = 1
    nib.save(nib.Nifti1Image(label * 50, np.eye(4)), home / "scan.nii")
    nib.save(nib.Nifti1Image(label, np.eye(4)), home / "truth.nii")
    nib.save(nib.Nifti1Image(np.stack([label, label], -1), np.eye(4)), home / "four.nii")
    nib.save(nib.Nifti1Image(np.stack([label[..., None]] * 3, -1), np.eye(4)), home / "five.nii")
    whole = (home / "scan.nii").read_bytes()
    for name, affine in (("singular", [1, 0, 0, 0] * 2 + [0, 0, 1, 0]), ("endless-affine", [np.inf] * 12)):
        (home / f"{name}.nii").write_bytes(whole[:280] + struct.pack("<12f", *affine) + whole[328:])
    (home / "packed.nii").write_bytes(gzip.compress(whole))
    (home / "plain.nii.gz").write_bytes(whole)
    (home / "members.nii.gz").write_bytes(gzip.compress(whole[:600]) + gzip.compress(whole[600:])[:-9])
    (home / "alone.hdr").write_bytes(whole[:344] + b"ni1\0" + bytes(4))
    (home / "text.nii").write_text("no image")
    for name in ("pipe.nii", "pipe.toml", "pipe.safetensors"):
        os.mkfifo(home / name)
    for name in ("loop.nii", "loop.toml"):
        os.symlink(name, home / name)
    for name in ("endless.nii", "endless.toml"):
        os.symlink("/dev/zero", home / name)
    os.symlink("scan.nii", home / "link.nii")
    for name in ("folder.nii", "folder.pt", "folder.toml"):
        (home / name).mkdir()
    (home / "dates.toml").write_text("name = 2026-11-30\nclicks = 12:30:00\nseed = 2026-11-30T12:00:00Z\n")
    (home / "twice.toml").write_text('name = "a"\nname = "b"\n')
    (home / "giant.toml").write_text(f'name = "a"\nclicks = {"9" * 5000}\n')
    (home / "broken_module.py").write_text("def (:\n")
    (home / "exiting_module.py").write_text("raise SystemExit(0)\n")
    (home / "odd-set").mkdir()
    (home / "odd-set" / "dataset.json").write_text('{"labels": {"a": 1}, "labels": {"a": NaN, "b": 1e999}}')
    for part, name in (("imagesTr", "a_0000.nii"), ("labelsTr", "a.nii")):
        (home / "numbered-set" / part).mkdir(parents=True)
        (home / "numbered-set" / part / name).write_bytes((home / "truth.nii").read_bytes())
    (home / "numbered-set" / "dataset.json").write_text('{"labels": 5}')
    _make_runs(home)
    return home


def _make_runs(home: Path) -> None:
    records = made_episode([0.5, 0.6], data_id="synthetic")
    data = {"kind": "synthetic", "name": "synthetic", "shape": [4, 32, 32], "cases": 1}
    suite = {"name": "quick", "segmenters": ["geodesic"], "clickers": ["random"], "clicks": 2, "data": [data]}
    about = json.dumps({"run_id": "run", "status": "finished", "suite": suite, "results_hash": results_hash(records)})
    for name in ("run", "pipe-run", "pipe-steps", "endless-steps", "nan-run", "giant-run"):
        (home / name).mkdir()
        (home / name / "run.json").write_text(about)
        (home / name / "steps.jsonl").write_text(as_lines(records))
    for pipe in (home / "pipe-run" / "run.json", home / "pipe-steps" / "steps.jsonl"):
        pipe.unlink()
        os.mkfifo(pipe)
    (home / "endless-steps" / "steps.jsonl").unlink()
    os.symlink("/dev/zero", home / "endless-steps" / "steps.jsonl")
    (home / "nan-run" / "run.json").write_text(about.replace('"clicks": 2', '"clicks": NaN'))
    (home / "giant-run" / "run.json").write_text(about.replace('"clicks": 2', '"clicks": ' + "9" * 5000))


def files_of(home: Path) -> dict[str, int]:
    return {
        str(path.relative_to(home)): path.lstat().st_size for path in home.rglob("*") if "__pycache__" not in str(path)
    }


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("name", BAD)
def test_a_mistake_is_one_line_and_leaves_nothing(name, traps, monkeypatch, capfd):
    monkeypatch.chdir(traps)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", ["synthfm", *BAD[name]])
    before = files_of(traps)
    with pytest.raises(SystemExit) as end:
        cli.main()
    out, err = capfd.readouterr()
    assert err.count("\n") == 1, err
    assert err.startswith("synthfm: ")
    assert err.rstrip("\n").isprintable()
    assert "SYNTHFM_TRACEBACK" not in err
    assert end.value.code == 2, err
    assert files_of(traps) == before, out
